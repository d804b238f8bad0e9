/** Runs the `corevisor` command for the booted tests. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseStoryLine, type StoryEvent } from "../../../boot/story.ts";

const root = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));

/** What a run printed, and what its host reported. */
export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly events: StoryEvent[];
}

/** Starts the command with this repository's own cache. */
export function startCorevisor(args: readonly string[], prefix: readonly string[] = []) {
  const [command, ...rest] = [...prefix, process.execPath, join(root, "cli/corevisor.mjs"), ...args] as [
    string,
  ];
  const child = spawn(command, rest, { stdio: ["ignore", "pipe", "pipe"] });
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].on("data", (bytes) => {
      output[name] += bytes;
    });
  }
  const ended = once(child, "close").then(
    ([status]): Ended => ({
      status,
      ...output,
      events: output.stdout.split(/\r?\n/).flatMap((line) => parseStoryLine(line) ?? []),
    }),
  );
  return { child, output, ended };
}

/** Runs the command to its end. */
export function corevisor(...args: string[]): Promise<Ended> {
  return startCorevisor(args).ended;
}

/** Runs a host that does these steps, and checks that every one of them succeeded and that it powered off. */
export async function hostDoes(steps: string, ...args: string[]): Promise<Ended> {
  const append = `quiet corevisor.steps=${steps}`;
  const ended = await corevisor("run", "--timeout", "600", "--append", append, ...args);
  const failed = ended.events.filter((event) => event.event === "step-ended" && event.status !== 0);
  assert.deepEqual(failed, [], ended.stdout);
  assert.equal(ended.status, 0, ended.stdout + ended.stderr);
  assert.ok(
    ended.events.some(({ event }) => event === "done"),
    ended.stdout,
  );
  return ended;
}

/** The events of one kind. */
export function eventsOf<Name extends StoryEvent["event"]>(
  ended: Ended,
  name: Name,
): Extract<StoryEvent, { event: Name }>[] {
  return ended.events.filter((event): event is Extract<StoryEvent, { event: Name }> => event.event === name);
}

/** The QEMU processes whose command line holds this text. */
export function qemuProcesses(mark: string): string[] {
  const { stdout } = spawnSync("ps", ["-eo", "pid,stat,args"], { encoding: "utf8" });
  return stdout
    .split("\n")
    .filter((line) => /^\s*\d+ [^Z]\S* \S*qemu-system-aarch64 /.test(line) && line.includes(mark));
}
