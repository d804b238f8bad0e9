import { writeFile } from "node:fs/promises";
import { Command, Option } from "commander";
import { BootError, systemCode } from "../boot/error.ts";
import { openTools } from "../boot/tools.ts";
import { type Bench, BenchError, benchPicture, benchTable, measure } from "../guests/bench.ts";
import { Status } from "./exit.ts";
import type { CommandContext } from "./main.ts";
import { machineOptions, wholeNumber } from "./options.ts";

interface BenchFlags {
  cpu: string;
  picture?: string;
  timeout?: number;
  json?: boolean;
}

/** `corevisor bench`: what VM exits cost on the host's own KVM, in both of its modes, and on the core. */
export function benchCommand(context: CommandContext): Command {
  return new Command("bench")
    .description("measure what VM exits cost, in instructions: stock nVHE, stock protected, and on the core")
    .addOption(machineOptions.cpu)
    .addOption(
      new Option("--timeout <S>", "stop a host after this many seconds").argParser(wholeNumber(1, 1_000_000)),
    )
    .option("--picture <FILE>", "draw the exits as SVG too")
    .addOption(machineOptions.json)
    .addHelpText(
      "after",
      "\nInstructions are counted by QEMU and the same on any machine; the host's own costs are times, to be compared only." +
        "\nExit status: 0 measured, 1 a host failed, 2 bad input or something missing.",
    )
    .action(async (flags: BenchFlags) => context.finish(await bench(context, flags)));
}

async function bench({ openJob, progress, print }: CommandContext, flags: BenchFlags): Promise<number> {
  const begin = performance.now();
  const job = await openJob();
  // A name that cannot be written is known before minutes are spent.
  if (flags.picture !== undefined) await writePicture(flags.picture, "");
  let result: Bench;
  try {
    const { cpu, timeout } = flags;
    result = await measure(job, openTools(job), { cpu, ...(timeout === undefined ? {} : { timeout }) });
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    progress.stop();
    process.stderr.write(`corevisor: ${error.message}\n`);
    if (flags.json) print({ ok: false, reason: "failed", error: error.message.split(";")[0] });
    return Status.FAILED;
  }
  progress.stop();
  if (flags.picture !== undefined) await writePicture(flags.picture, await benchPicture(result.rows));
  const seconds = Number(((performance.now() - begin) / 1000).toFixed(3));
  if (flags.json) print({ ok: true, seconds, cpu: flags.cpu, ...result });
  else process.stdout.write(benchTable(result));
  return Status.OK;
}

async function writePicture(path: string, svg: string): Promise<void> {
  try {
    await writeFile(path, svg);
  } catch (error) {
    throw new BootError(
      `cannot write the picture ${path} (${systemCode(error)})`,
      "name another file with --picture",
      { cause: error },
    );
  }
}
