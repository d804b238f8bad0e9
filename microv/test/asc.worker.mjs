// The AssemblyScript compiler in a thread of its own without the TypeScript loader, which would take eight seconds to read it.
import { parentPort } from "node:worker_threads";
import asc from "assemblyscript/asc";

parentPort?.on("message", async ({ id, file, source, flags }) => {
  const outputs = new Map();
  const { error, stderr } = await asc.main([file, "-o", "out.wasm", ...flags], {
    readFile: (path) => (path === file ? source : null),
    writeFile: (path, contents) => void outputs.set(path, contents),
    listFiles: () => [],
  });
  parentPort?.postMessage({
    id,
    failure: error ? `${file}: ${error.message}\n${stderr}` : undefined,
    wasm: outputs.get("out.wasm"),
    map: outputs.get("out.wasm.map")?.toString(),
  });
});
