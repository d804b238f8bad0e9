import { join } from "node:path";
import { Command, Option } from "commander";
import { BootError } from "../boot/error.ts";
import {
  describeMutants,
  Farm,
  judgeAll,
  type Mutant,
  mutants,
  SourceMap,
  summarizeMutants,
} from "../microv/index.ts";
import { colours } from "./colours.ts";
import { Status } from "./exit.ts";
import type { CommandContext } from "./main.ts";
import { buildOf, claimsUrl, refusal, wholeNumber } from "./verify.ts";

/** Limits of one query: a mutant's proof that takes longer is counted as undecided. */
const QUERY_MEGABYTES = 1500;
const QUERY_SECONDS = 20;

interface MutateFlags {
  sample: number;
  seed: number;
  only?: string[];
  wasm?: string;
  jobs?: number;
  timeout: number;
  json?: boolean;
}

/** `corevisor mutate`: changes the core's wasm at random and counts which changes the proof notices. */
export function mutateCommand(context: CommandContext): Command {
  return new Command("mutate")
    .description("change the core's WebAssembly at random places, and see whether the proof notices")
    .addOption(new Option("--sample <n>", "how many mutants").argParser(wholeNumber).default(50))
    .addOption(
      new Option("--seed <n>", "which ones: the same seed draws the same").argParser(wholeNumber).default(1),
    )
    .addOption(new Option("--only <name...>", "only in these functions, by name or the end of it"))
    .addOption(new Option("--wasm <file>", "another build of the core, instead of the one that is booted"))
    .addOption(new Option("--jobs <n>", "processes; one a processor by default").argParser(wholeNumber))
    .addOption(
      new Option("--timeout <seconds>", "limit of one question to a solver")
        .argParser(wholeNumber)
        .default(QUERY_SECONDS),
    )
    .addOption(new Option("--json", "print one JSON object on standard output"))
    .addHelpText(
      "after",
      "\nExit status: 0 every mutant is killed or equivalent, 1 some survive, 2 bad input or something missing.",
    )
    .action(async (flags: MutateFlags) => context.finish(await run(context, flags)));
}

async function run(context: CommandContext, flags: MutateFlags): Promise<number> {
  const { progress, signal } = context;
  const begin = performance.now();
  const { cache } = await context.openJob();
  const build = await buildOf(flags.wasm, cache.root);
  const { only } = flags;
  let drawn: Mutant[];
  try {
    drawn = mutants(build.bytes, {
      sample: flags.sample,
      seed: flags.seed,
      ...(build.sourceMap !== undefined && { sourceMap: new SourceMap(build.sourceMap) }),
      ...(only && { only: (f) => only.some((part) => f.name === part || f.name.endsWith(`/${part}`)) }),
    });
  } catch (error) {
    throw refusal(flags.wasm, error);
  }
  if (drawn.length === 0)
    throw new BootError("there is nothing to mutate", "name other functions with --only");
  const farm = new Farm(
    {
      claims: claimsUrl,
      wasm: build.bytes,
      ...(build.sourceMap !== undefined && { sourceMap: build.sourceMap }),
      certify: false,
      cache: join(cache.root, "proof"),
      milliseconds: flags.timeout * 1000,
      megabytes: QUERY_MEGABYTES,
    },
    flags.jobs,
  );
  signal.addEventListener("abort", () => farm.close(), { once: true });
  const interrupted = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  try {
    const work = judgeAll(farm, drawn, (done, killed) => {
      progress.onProgress({
        stage: process.stderr.isTTY ? `${killed} of ${done} mutants killed` : "judging mutants",
        fraction: done / drawn.length,
      });
    });
    const judged = await Promise.race([interrupted, work]);
    progress.stop();
    const summary = summarizeMutants(judged, (performance.now() - begin) / 1000);
    if (flags.json) context.print({ ...summary });
    else process.stdout.write(describeMutants(summary, colours));
    return summary.survivors.length === 0 ? Status.OK : Status.FAILED;
  } catch (error) {
    throw refusal(flags.wasm, error);
  } finally {
    farm.close();
  }
}
