/** Runs a program with limits on its time and memory. */

import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable } from "node:stream";

export interface Limits {
  readonly milliseconds: number;
  readonly megabytes: number;
}

/** How a run ended. A run that ended in any other way than by itself is `stopped`, with the reason in words. */
export interface Run {
  readonly stopped: string | undefined;
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** More output than this from a solver is no answer. */
const MOST_OUTPUT = 1 << 28;

/** Undone last first: a solver ends before its folder goes. */
const unfinished = new Set<() => void>();
process.on("exit", () => {
  for (const undo of [...unfinished].reverse()) undo();
});

/** Does `work`. Should this process end in the middle of it, `undo` is called: nothing that was started is left behind. */
export async function undoneAtExit<T>(undo: () => void, work: () => Promise<T>): Promise<T> {
  unfinished.add(undo);
  try {
    return await work();
  } finally {
    unfinished.delete(undo);
  }
}

/**
 * Runs `command` to its end, or to its limits. The memory limit is the shell's `ulimit -v`, and is not enforced where that is missing;
 * its `ulimit -t` ends a run whose parent was killed. Never rejects: a program that cannot be started is a run that stopped.
 */
export function run(command: string, args: readonly string[], limits: Limits): Promise<Run> {
  const [kilobytes, seconds] = [
    Math.ceil(limits.megabytes * 1024),
    Math.ceil(limits.milliseconds / 1000) + 1,
  ];
  const script = `ulimit -v ${kilobytes} 2>/dev/null; ulimit -t ${seconds} 2>/dev/null; exec "$@"`;
  const child = spawn("/bin/sh", ["-c", script, "sh", command, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  return undoneAtExit(
    () => child.kill("SIGKILL"),
    () => ended(child, command, limits),
  );
}

/** How the program that was started ends. */
function ended(
  child: ChildProcessByStdio<null, Readable, Readable>,
  command: string,
  limits: Limits,
): Promise<Run> {
  return new Promise((resolve) => {
    const output = { stdout: "", stderr: "" };
    let stopped: string | undefined;
    const stop = (reason: string): void => {
      stopped ??= reason;
      child.kill("SIGKILL");
      child.stdout.destroy();
      child.stderr.destroy();
    };
    const timer = setTimeout(() => stop(`timeout after ${limits.milliseconds} ms`), limits.milliseconds);
    for (const stream of ["stdout", "stderr"] as const) {
      child[stream].setEncoding("utf8").on("data", (chunk: string) => {
        output[stream] += chunk;
        if (output[stream].length > MOST_OUTPUT) stop("too much output");
      });
    }
    const finish = (code: number | null, signal: string | null, failure?: string): void => {
      clearTimeout(timer);
      if (/out of memory|bad_alloc|memory exhausted/i.test(output.stderr + output.stdout.slice(-1000))) {
        stopped ??= `out of memory (limit ${limits.megabytes} MB)`;
      } else if (signal) {
        stopped ??= `crash: ${signal} ${output.stderr.trim().slice(0, 300)}`.trimEnd();
      }
      resolve({ stopped: stopped ?? failure, code, ...output });
    };
    child.on("error", (error) => finish(null, null, `cannot start ${command}: ${error.message}`));
    child.on("close", (code, signal) => finish(code, signal));
  });
}
