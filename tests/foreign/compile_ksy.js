// Compiles a Kaitai Struct file, given as JSON on stdin, to Python: node compile_ksy.js MODULES OUT
const fs = require("fs");
const path = require("path");

const [modules, out] = process.argv.slice(2);
const compiler = require(path.resolve(modules, "kaitai-struct-compiler"));
const source = JSON.parse(fs.readFileSync(0, "utf8"));
compiler.compile("python", source, null, false).then(
  (files) => Object.entries(files).forEach(([name, text]) => fs.writeFileSync(path.join(out, name), text)),
  (error) => {
    console.error(String(error));
    process.exit(1);
  },
);
