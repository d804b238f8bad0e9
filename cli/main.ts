import { Command, CommanderError } from "commander";
import { openCache } from "../boot/cache.ts";
import { BootError } from "../boot/error.ts";
import type { Job } from "../boot/job.ts";
import metadata from "../package.json" with { type: "json" };
import { benchCommand } from "./bench.ts";
import { demoCommand } from "./demo.ts";
import { doctorCommand } from "./doctor.ts";
import { Interrupted, interruption, Status } from "./exit.ts";
import { openProgress, type ProgressDisplay } from "./progress.ts";
import { runCommand } from "./run.ts";
import { mutateCommand, verifyCommand } from "./verify.ts";

/** What a command works with. */
export interface CommandContext {
  readonly progress: ProgressDisplay;
  readonly signal: AbortSignal;
  /** Opens the cache. */
  readonly openJob: () => Promise<Job>;
  /** Prints the command's JSON object as one line on standard output. */
  readonly print: (object: Record<string, unknown>) => void;
  /** Says the exit status. */
  readonly finish: (status: number) => void;
}

/**
 * Runs the command line.
 * @param args without the program's name
 * @returns the exit status: 0 done, 1 it ran and failed, 2 bad input or something missing, 128 + n stopped by signal n
 */
export async function main(args: readonly string[]): Promise<number> {
  const { signal, release } = interruption();
  const progress = openProgress();
  let status: number = Status.OK;
  const context: CommandContext = {
    progress,
    signal,
    openJob: async () => ({ cache: await openCache(), onProgress: progress.onProgress, signal }),
    print: (object) => {
      process.stdout.write(`${JSON.stringify(object)}\n`);
    },
    finish: (code) => {
      status = code;
    },
  };
  const program = new Command("corevisor")
    .description("A formally verified hypervisor under a stock Linux host on Arm")
    .version(metadata.version)
    .exitOverride()
    .configureOutput({
      outputError: (text, write) => write(`corevisor: ${text.replace(/^error: /, "")}`),
    })
    .configureHelp({ showGlobalOptions: true });
  for (const make of [runCommand, demoCommand, benchCommand, doctorCommand, verifyCommand, mutateCommand]) {
    program.addCommand(make(context).copyInheritedSettings(program));
  }
  try {
    await program.parseAsync(args, { from: "user" });
    return status;
  } catch (error) {
    progress.stop();
    const failed = explain(error);
    if (failed.words !== "") process.stderr.write(`corevisor: ${failed.words}\n`);
    if (args.includes("--json") && failed.status !== Status.OK) {
      context.print({ ok: false, reason: failed.reason, error: failed.words });
    }
    return failed.status;
  } finally {
    release();
  }
}

/** What to say of an error, and with which status to end. */
function explain(error: unknown): { status: number; reason: string; words: string } {
  if (error instanceof Interrupted)
    return { status: error.status, reason: "interrupted", words: error.message };
  if (error instanceof BootError) return { status: Status.REFUSED, reason: "refused", words: error.message };
  if (error instanceof CommanderError) {
    // Help and version end with 0, everything else is bad usage. Commander has printed what there is to say.
    const status = error.exitCode === 0 ? Status.OK : Status.REFUSED;
    return { status, reason: "usage", words: "" };
  }
  const words = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { status: Status.FAILED, reason: "failed", words: `this is a bug in corevisor: ${words}` };
}
