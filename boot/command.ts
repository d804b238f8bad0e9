import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { delimiter, join } from "node:path";

/** How a finished command ended. A command ended by a signal has status 128 + 9, as a shell reports it. */
export interface Finished {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly cwd?: string;
  /** Added to the environment of this process. */
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** Output is bytes, handed over one a character (latin1), instead of UTF-8 text. */
  readonly binary?: boolean;
  /** Opens file descriptor 3 of the command for writing and hears each line from it. */
  readonly onStatusLine?: (line: string) => void;
}

/**
 * Runs a command to its end with no standard input. A status other than 0 is not an error here; the caller judges it.
 * @throws the system error when the command cannot be started (`ENOENT`: there is no such command)
 * @throws the signal's reason when it is aborted; the command and its children are gone by then
 */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<Finished> {
  options.signal?.throwIfAborted();
  const spawnOptions: SpawnOptions = {
    // Its own process group, so that one signal reaches a package manager's helpers too.
    detached: true,
    stdio: ["ignore", "pipe", "pipe", options.onStatusLine ? "pipe" : "ignore"],
    env: { ...process.env, LC_ALL: "C.UTF-8", ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  };
  const child = spawn(command, args, spawnOptions);
  endWithThisProcess(child);
  const output: Record<"stdout" | "stderr", Buffer[]> = { stdout: [], stderr: [] };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.on("data", (chunk: Buffer) => output[name].push(chunk));
  }
  const { onStatusLine } = options;
  if (onStatusLine) {
    const status = child.stdio[3] as NodeJS.ReadableStream | null;
    let rest = "";
    status?.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      lines.forEach(onStatusLine);
    });
  }
  const abort = () => {
    if (child.pid !== undefined) killGroup(child.pid);
  };
  options.signal?.addEventListener("abort", abort, { once: true });
  try {
    const status = await new Promise<number>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code) => resolve(code ?? 137));
    });
    options.signal?.throwIfAborted();
    const encoding = options.binary ? "latin1" : "utf8";
    return {
      status,
      stdout: Buffer.concat(output.stdout).toString(encoding),
      stderr: Buffer.concat(output.stderr).toString("utf8"),
    };
  } finally {
    options.signal?.removeEventListener("abort", abort);
  }
}

const living = new Set<ChildProcess>();

/**
 * Ends a child's process group when this process exits in a way that runs no `finally`: an uncaught exception, process.exit().
 * @param child started with `detached`
 */
export function endWithThisProcess(child: ChildProcess): void {
  if (living.size === 0) process.once("exit", endLiving);
  living.add(child);
  child.once("close", () => {
    living.delete(child);
    if (living.size === 0) process.off("exit", endLiving);
  });
}

function endLiving(): void {
  for (const { pid } of living) if (pid !== undefined) killGroup(pid);
}

/** Ends a process group at once. A group that is gone already is no error. */
export function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // ESRCH: it ended by itself.
  }
}

/** The absolute path of a command on PATH, or undefined when there is none that may be executed. */
export async function findOnPath(name: string): Promise<string | undefined> {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    if (folder === "") continue;
    const candidate = join(folder, name);
    try {
      await access(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}
