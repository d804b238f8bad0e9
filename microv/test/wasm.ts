/** Compiles the AssemblyScript fixtures for the tests, in memory. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";

const folder = dirname(fileURLToPath(import.meta.url));
const FLAGS = ["-O1", "--debug", "--noAssert", "--runtime", "stub", "--sourceMap", "--enable", "threads"];
const MEMORY = ["--initialMemory", "2", "--maximumMemory", "2"];

interface Reply {
  readonly id: number;
  readonly failure: string | undefined;
  readonly wasm: Uint8Array;
  readonly map: string;
}

let worker: Worker | undefined;
let requests = 0;

/** What the compiler makes of a fixture, or of a source text given in its place. */
export function compile(name: string, source?: string): Promise<{ wasm: Uint8Array; map: string }> {
  const file = `${name}.ts`;
  worker ??= new Worker(join(folder, "asc.worker.mjs"), { execArgv: [] });
  const compiler = worker;
  compiler.ref();
  const id = ++requests;
  return new Promise((resolve, reject) => {
    const receive = (reply: Reply): void => {
      if (reply.id !== id) return;
      compiler.off("message", receive);
      compiler.unref();
      if (reply.failure) reject(new Error(reply.failure));
      else resolve({ wasm: reply.wasm.slice(), map: reply.map });
    };
    compiler.on("message", receive);
    compiler.postMessage({
      id,
      file,
      source: source ?? readFileSync(join(folder, "fixtures", file), "utf8"),
      flags: [...FLAGS, ...MEMORY],
    });
  });
}
