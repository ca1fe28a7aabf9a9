-- wrk … -s post.lua URL -- BYTES: the same POST of BYTES each time; the last line of output is JSON.
-- Its head is as long as the engine's, so that the server reads as much of both; its numbers stay what they are.
function init(args)
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/octet-stream"
    wrk.headers["User-Agent"] = "engine/0.1.0"
    wrk.headers["X-Producer-Id"] = "0"
    wrk.headers["X-Sequence"] = string.format("%20d", 123456)
    wrk.headers["X-Timestamp"] = string.format("%20d", 1700000000000000000)
    wrk.body = string.rep("e", tonumber(args[1]))
end

function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format('\n{"requests": %d, "seconds": %.6f, "errors": %d}\n', summary.requests,
        summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout))
end
