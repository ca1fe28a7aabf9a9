// Objects of the Prometheus Operator (a JSON list on standard input) against the schemas of its resource definitions.
// A misspelt key that may be left out is not found: these schemas let unknown keys pass.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const path = "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/index.js";
const models = await import(pathToFileURL(resolve(process.argv[2], path)));
let failures = 0;
for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const name = `${object.kind} ${object.metadata?.name}`;
  const model = models[object.kind];
  try {
    if (!model) throw new Error("no such kind");
    new model(object).validate();
    console.log(`${name}: fits`);
  } catch (error) {
    failures += 1;
    console.error(`${name}: ${error.message}`);
  }
}
process.exit(failures ? 1 : 0);
