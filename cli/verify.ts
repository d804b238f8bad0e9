import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Command, Option } from "commander";
import { BootError } from "../boot/error.ts";
import { buildWasm } from "../kcore/build/wasm.ts";
import {
  type MutateFlags,
  mutateOptions,
  Refusal,
  readBuild,
  runMutate,
  runVerify,
  type Session,
  type Summary,
  type VerifyFlags,
  verifyOptions,
} from "../microv/index.ts";
import { colours } from "./colours.ts";
import { Status } from "./exit.ts";
import type { CommandContext } from "./main.ts";
import { checkMeta, type MetaState, unasked } from "./meta.ts";
import { linesOfProof } from "./proofsize.ts";
import { repository } from "./repository.ts";

/** Where the verdict on the core's own bytes is kept, for `corevisor demo` to say what is proved of them. */
const verdictFile = join(repository, "proof", "verdict.json");

interface WasmFlag {
  readonly wasm?: string;
}

const wasm = () =>
  new Option("--wasm <file>", "another build of the core, instead of the one that is booted");

/** `corevisor verify`, which is `npm run verify`: proves the bytes that are translated and booted. */
export function verifyCommand(context: CommandContext): Command {
  const command = new Command("verify")
    .description("prove the core's WebAssembly, function by function, and the security theorem")
    .addOption(wasm())
    .addOption(
      new Option("--meta", "have Coq check the argument from lemmas to whole executions (docs/theorem.md)"),
    );
  return verifyOptions(command).action((flags: VerifyFlags & WasmFlag & { readonly meta?: boolean }) =>
    refusing(context, async () => {
      const session = await open(context, flags);
      if (flags.meta) context.progress.onProgress({ stage: "Coq checks the meta-argument" });
      const meta = flags.meta ? await checkMeta(context.signal) : unasked;
      const also = { meta: meta.words, ...(statusOf(meta) !== Status.OK && { ok: false }) };
      const { summary } = await runVerify({ ...session, also }, flags);
      if (flags.wasm === undefined && !flags.only)
        writeFileSync(verdictFile, `${JSON.stringify(verdictOf(summary), null, 2)}\n`);
      if (!flags.json) process.stdout.write(`meta-argument: ${meta.words}\n${sizes()}`);
      return summary.ok ? statusOf(meta) : Status.FAILED;
    }),
  );
}

/** Where all else is proved. A check that was asked for and not made is no success. */
function statusOf({ state }: MetaState): number {
  return { checked: Status.OK, unasked: Status.OK, missing: Status.REFUSED, refused: Status.FAILED }[state];
}

/** `corevisor mutate`: changes the core's wasm at random and counts which changes the proof notices. */
export function mutateCommand(context: CommandContext): Command {
  const command = new Command("mutate")
    .description("change the core's WebAssembly at random places, and see whether the proof notices")
    .addOption(wasm());
  return mutateOptions(command).action((flags: MutateFlags & WasmFlag) =>
    refusing(context, async () => {
      const summary = await runMutate(await open(context, flags), flags);
      return summary.survivors.length === 0 ? Status.OK : Status.FAILED;
    }),
  );
}

/** Ends the command with the status of `work`; what the verifier refuses is bad input. */
async function refusing(context: CommandContext, work: () => Promise<number>): Promise<void> {
  try {
    context.finish(await work());
  } catch (error) {
    throw error instanceof Refusal ? new BootError(error.message, error.remedy) : error;
  }
}

async function open({ openJob, progress, signal }: CommandContext, flags: WasmFlag): Promise<Session> {
  const { cache } = await openJob();
  return {
    claims: pathToFileURL(join(repository, "proof", "claims.ts")).href,
    build: flags.wasm === undefined ? await buildWasm(cache.root) : readBuild(flags.wasm),
    cache: join(cache.root, "proof"),
    signal,
    colours,
    onProgress: progress.onProgress,
    stopProgress: progress.stop,
    write: (text) => void process.stdout.write(text),
  };
}

/** What is kept of a verification of the core's own bytes. */
function verdictOf(summary: Summary): Record<string, unknown> {
  const {
    wasmSha256,
    functions,
    proved,
    unproved,
    obligations,
    failed,
    vacuous,
    undecided,
    lemmas,
    lemmasProved,
  } = summary;
  return {
    wasmSha256,
    functions,
    proved,
    unproved,
    obligations,
    failed: failed + undecided,
    vacuous,
    lemmas,
    lemmasProved,
  };
}

function sizes(): string {
  const { core, proof, ratio } = linesOfProof();
  return `${proof} lines of specification and proof for ${core} lines of core: ${ratio} a line\n`;
}
