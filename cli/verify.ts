import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Command, InvalidArgumentError, Option } from "commander";
import { BootError } from "../boot/error.ts";
import { buildWasm } from "../kcore/build/wasm.ts";
import { DecodeError, describe, type Report, type Summary, summarize, verify } from "../microv/index.ts";
import { colours } from "./colours.ts";
import { Interrupted, Status } from "./exit.ts";
import type { CommandContext } from "./main.ts";
import { linesOfProof } from "./proofsize.ts";
import { repository } from "./repository.ts";

/** The file with the claims about the core. */
export const claimsUrl = pathToFileURL(join(repository, "proof", "claims.ts")).href;

/** Where the verdict on the core's own bytes is kept, for `corevisor demo` to say what is proved of them. */
const verdictFile = join(repository, "proof", "verdict.json");

/** Limits of one query. */
const QUERY_MEGABYTES = 1500;
const QUERY_SECONDS = 60;

interface VerifyFlags {
  wasm?: string;
  only?: string[];
  certify?: boolean;
  cache: boolean;
  jobs?: number;
  timeout: number;
  json?: boolean;
}

/** A whole number from 1 on. @throws InvalidArgumentError when it is none */
export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError("It must be a whole number from 1 on.");
  return value;
}

/** `corevisor verify`, which is `npm run verify`: proves the bytes that are translated and booted. */
export function verifyCommand(context: CommandContext): Command {
  return new Command("verify")
    .description("prove the core's WebAssembly, function by function, and the security theorem")
    .addOption(new Option("--wasm <file>", "another build of the core, instead of the one that is booted"))
    .addOption(new Option("--only <name...>", "only these functions and lemmas, by name or the end of it"))
    .addOption(
      new Option("--certify", "have every answer's certificate checked; what is cached is checked again"),
    )
    .addOption(new Option("--no-cache", "start from scratch and keep nothing"))
    .addOption(new Option("--jobs <n>", "processes; one a processor by default").argParser(wholeNumber))
    .addOption(
      new Option("--timeout <seconds>", "limit of one question to a solver")
        .argParser(wholeNumber)
        .default(QUERY_SECONDS),
    )
    .addOption(new Option("--json", "print one JSON object on standard output"))
    .addHelpText(
      "after",
      "\nExit status: 0 nothing failed, 1 something failed, 2 bad input or something missing.",
    )
    .action(async (flags: VerifyFlags) => context.finish(await run(context, flags)));
}

/** A build of the core, to be verified. */
export interface Build {
  readonly bytes: Uint8Array;
  readonly sourceMap: string | undefined;
  readonly sha256: string;
}

/**
 * The build in `file`, or the one that is booted.
 * @throws BootError when the file cannot be read
 */
export async function buildOf(file: string | undefined, cache: string): Promise<Build> {
  if (file === undefined) return buildWasm(cache);
  if (!existsSync(file) || !statSync(file).isFile())
    throw new BootError(`--wasm ${file}: there is no such file`, "name a WebAssembly file");
  const bytes = new Uint8Array(readFileSync(file));
  const map = `${file}.map`;
  return {
    bytes,
    sourceMap: existsSync(map) ? readFileSync(map, "utf8") : undefined,
    sha256: createHash("sha256").update(bytes).digest("hex"),
  };
}

/** What a module that is no core, or one the verifier does not support, is refused with. */
export function refusal(file: string | undefined, error: unknown): unknown {
  if (error instanceof Interrupted || error instanceof BootError) return error;
  const words = error instanceof Error ? error.message : String(error);
  const known =
    error instanceof DecodeError ||
    /^(the core|the specification|the claims|no solver|class|namespace|there is no)/.test(words);
  return known
    ? new BootError(`${file ?? "the core's wasm"}: ${words}`, "see corevisor verify --help")
    : error;
}

async function run(context: CommandContext, flags: VerifyFlags): Promise<number> {
  const { progress, signal } = context;
  const begin = performance.now();
  const { cache } = await context.openJob();
  const build = await buildOf(flags.wasm, cache.root);
  const only = flags.only;
  const wanted = (name: string) => !only || only.some((part) => name === part || name.endsWith(`/${part}`));
  let failures = 0;
  let report: Report;
  try {
    report = await verify({
      claims: claimsUrl,
      wasm: build.bytes,
      ...(build.sourceMap !== undefined && { sourceMap: build.sourceMap }),
      certify: flags.certify ?? false,
      ...(flags.cache && { cache: join(cache.root, "proof") }),
      milliseconds: flags.timeout * 1000,
      megabytes: QUERY_MEGABYTES,
      ...(flags.jobs !== undefined && { processes: flags.jobs }),
      only: wanted,
      signal,
      onVerdict: (verdict, done, total) => {
        if (verdict.status === "failed") failures++;
        const failed = failures === 0 ? "" : `, ${failures} failed`;
        progress.onProgress({ stage: `proving${failed}`, fraction: done / total });
      },
    });
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw refusal(flags.wasm, error);
  }
  if (signal.aborted) throw signal.reason;
  progress.stop();
  if (only && report.verdicts.length === 0)
    throw new BootError(
      `--only ${only.join(" ")}: no function and no lemma has such a name`,
      "see corevisor verify --json for the names",
    );
  const summary = summarize(report, build.sha256, (performance.now() - begin) / 1000);
  const lines = linesOfProof();
  if (flags.wasm === undefined && !only)
    writeFileSync(verdictFile, `${JSON.stringify(verdictOf(summary), null, 2)}\n`);
  if (flags.json) context.print({ ...summary, lines });
  else
    process.stdout.write(
      `${describe(report, summary, colours)}${lines.proof} lines of specification and proof for ${lines.core} lines of core: ${lines.ratio} a line\n`,
    );
  return summary.ok ? Status.OK : Status.FAILED;
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
