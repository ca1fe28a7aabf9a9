-- wrk … -s post.lua URL -- BYTES: the same POST of BYTES each time; the last line of output is JSON.
function init(args)
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/octet-stream"
    wrk.body = string.rep("e", tonumber(args[1]))
end

function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format('\n{"requests": %d, "seconds": %.6f, "errors": %d}\n', summary.requests,
        summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout))
end
