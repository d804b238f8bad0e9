/** Starts a TypeScript file of this package as a process of its own. */

import { type ChildProcess, type ForkOptions, fork } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Node.js by itself does not run TypeScript: the loader is given to each process, whatever way its parent came by it. */
const loader = import.meta.resolve("tsx");

/**
 * @param file name of a file beside this one
 * @param nodeOptions options for Node.js itself
 */
export function forkFile(
  file: string,
  options: ForkOptions = {},
  nodeOptions: readonly string[] = [],
): ChildProcess {
  const path = fileURLToPath(new URL(file, import.meta.url));
  return fork(path, { ...options, execArgv: ["--import", loader, ...nodeOptions] });
}
