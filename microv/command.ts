/** The commands `verify` and `mutate`: their options, and what they do. The `microv` program and others are made of them. */

import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { Farm, type FarmSettings, type Report, verify } from "./farm.ts";
import { DecodeError } from "./module.ts";
import { type Mutant, mutants } from "./mutation.ts";
import { describe, type Palette, type Summary, summarize } from "./report.ts";
import { SourceMap } from "./sourcemap.ts";
import { describeMutants, judgeAll, type MutationSummary, summarizeMutants } from "./survivors.ts";

/** Bad input, or something is missing: one line names it, the other the way out. */
export class Refusal extends Error {
  readonly remedy: string;

  constructor(message: string, remedy: string) {
    super(message);
    this.name = "Refusal";
    this.remedy = remedy;
  }
}

/** A module to be verified. */
export interface Build {
  readonly bytes: Uint8Array;
  readonly sourceMap: string | undefined;
  readonly sha256: string;
}

/** What a command works with. */
export interface Session {
  /** The file that exports the claims, as a `file:` URL. */
  readonly claims: string;
  readonly build: Build;
  /** Folder for what is kept. */
  readonly cache: string;
  readonly signal: AbortSignal;
  readonly colours: Palette;
  /** More keys for the JSON object of `verify`. */
  readonly also?: Readonly<Record<string, unknown>>;
  onProgress(progress: { stage: string; fraction: number }): void;
  /** Clears what progress has shown. */
  stopProgress(): void;
  /** Writes to standard output. */
  write(text: string): void;
}

/** Limits of one question to a solver. */
const MEGABYTES = 1500;
const VERIFY_SECONDS = 60;
const MUTATE_SECONDS = 20;

/** A whole number from 1 on. @throws InvalidArgumentError when it is none */
function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError("It must be a whole number from 1 on.");
  return value;
}

const jobs = () => new Option("--jobs <n>", "processes; one a processor by default").argParser(wholeNumber);
const timeout = (seconds: number) =>
  new Option("--timeout <seconds>", "limit of one question to a solver")
    .argParser(wholeNumber)
    .default(seconds);
const json = () => new Option("--json", "print one JSON object on standard output");
const only = (what: string) => new Option("--only <name...>", what);
const solver = () =>
  new Option("--solver <name...>", "only these: the first is asked first").choices([
    "cadical",
    "bitwuzla",
    "cvc5",
    "z3",
    "wasm",
  ]);

export interface VerifyFlags {
  readonly only?: string[];
  readonly certify?: boolean;
  readonly cache: boolean;
  readonly jobs?: number;
  readonly timeout: number;
  readonly solver?: string[];
  readonly json?: boolean;
}

/** Adds the options of `verify` to a command. */
export function verifyOptions(command: Command): Command {
  return command
    .addOption(only("only these functions and lemmas, by name or the end of it"))
    .addOption(
      new Option("--certify", "have every answer's certificate checked; what is cached is checked again"),
    )
    .addOption(new Option("--no-cache", "start from scratch and keep nothing"))
    .addOption(jobs())
    .addOption(timeout(VERIFY_SECONDS))
    .addOption(solver())
    .addOption(json())
    .addHelpText(
      "after",
      "\nExit status: 0 nothing failed, 1 something failed, 2 bad input or something missing.",
    );
}

export interface MutateFlags {
  readonly sample: number;
  readonly seed: number;
  readonly only?: string[];
  readonly jobs?: number;
  readonly timeout: number;
  readonly json?: boolean;
}

/** Adds the options of `mutate` to a command. */
export function mutateOptions(command: Command): Command {
  return command
    .addOption(new Option("--sample <n>", "how many mutants").argParser(wholeNumber).default(50))
    .addOption(
      new Option("--seed <n>", "which ones: the same seed draws the same").argParser(wholeNumber).default(1),
    )
    .addOption(only("only in these functions, by name or the end of it"))
    .addOption(jobs())
    .addOption(timeout(MUTATE_SECONDS))
    .addOption(json())
    .addHelpText(
      "after",
      "\nExit status: 0 every mutant is killed or equivalent, 1 some survive, 2 bad input or something missing.",
    );
}

const named = (names: readonly string[] | undefined) => (name: string) =>
  !names || names.some((part) => name === part || name.endsWith(`/${part}`));

/**
 * The module in a file, with the source map beside it if there is one.
 * @throws Refusal when there is no such file
 */
export function readBuild(file: string): Build {
  if (!existsSync(file) || !statSync(file).isFile())
    throw new Refusal(`${file}: there is no such file`, "name a WebAssembly file");
  const bytes = new Uint8Array(readFileSync(file));
  const map = `${file}.map`;
  return {
    bytes,
    sourceMap: existsSync(map) ? readFileSync(map, "utf8") : undefined,
    sha256: createHash("sha256").update(bytes).digest("hex"),
  };
}

function settings(
  session: Session,
  flags: { timeout: number; certify?: boolean; solver?: string[]; cache?: boolean },
): FarmSettings {
  const { build } = session;
  return {
    claims: session.claims,
    wasm: build.bytes,
    ...(build.sourceMap !== undefined && { sourceMap: build.sourceMap }),
    certify: flags.certify ?? false,
    scratch: join(session.cache, "tmp"),
    ...(flags.cache !== false && { cache: session.cache }),
    milliseconds: flags.timeout * 1000,
    megabytes: MEGABYTES,
    ...(flags.solver && { solvers: flags.solver }),
  };
}

/** Bad input shows as an error about the module or the claims; anything else is a fault of the verifier. */
function refused(error: unknown): unknown {
  const words = error instanceof Error ? error.message : String(error);
  const known =
    error instanceof DecodeError ||
    /^(the core|the specification|the claims|no solver|class |namespace |there is no|MICROV_)/.test(words);
  return known ? new Refusal(words, "see --help for what can be verified and with what") : error;
}

/** Rejects when the session is interrupted. */
function interrupted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}

/**
 * Verifies, prints, and tells what was found.
 * @throws Refusal on bad input
 */
export async function runVerify(
  session: Session,
  flags: VerifyFlags,
): Promise<{ report: Report; summary: Summary }> {
  const begin = performance.now();
  let failures = 0;
  let report: Report;
  try {
    const work = verify({
      ...settings(session, flags),
      ...(flags.jobs !== undefined && { processes: flags.jobs }),
      only: named(flags.only),
      signal: session.signal,
      onVerdict: (verdict, done, total) => {
        if (verdict.status === "failed") failures++;
        session.onProgress({
          stage: failures === 0 ? "proving" : "proving, with failures",
          fraction: done / total,
        });
      },
    });
    report = await Promise.race([work, interrupted(session.signal)]);
  } catch (error) {
    throw session.signal.aborted ? session.signal.reason : refused(error);
  }
  session.stopProgress();
  if (flags.only && report.verdicts.length === 0)
    throw new Refusal(
      `--only ${flags.only.join(" ")}: no function and no lemma has such a name`,
      "see --json for the names",
    );
  const summary = summarize(report, session.build.sha256, (performance.now() - begin) / 1000);
  session.write(
    flags.json
      ? `${JSON.stringify({ ...summary, ...session.also })}\n`
      : describe(report, summary, session.colours),
  );
  return { report, summary };
}

/**
 * Draws mutants, judges them, prints, and tells what was found.
 * @throws Refusal on bad input
 */
export async function runMutate(session: Session, flags: MutateFlags): Promise<MutationSummary> {
  const begin = performance.now();
  const { build } = session;
  const wanted = named(flags.only);
  let drawn: Mutant[];
  try {
    drawn = mutants(build.bytes, {
      sample: flags.sample,
      seed: flags.seed,
      ...(build.sourceMap !== undefined && { sourceMap: new SourceMap(build.sourceMap) }),
      only: ({ name }) => wanted(name),
    });
  } catch (error) {
    throw refused(error);
  }
  if (drawn.length === 0) throw new Refusal("there is nothing to mutate", "name other functions with --only");
  const farm = new Farm(settings(session, flags), flags.jobs);
  try {
    const work = judgeAll(farm, drawn, (done) => {
      session.onProgress({ stage: "judging mutants", fraction: done / drawn.length });
    });
    const judged = await Promise.race([work, interrupted(session.signal)]);
    session.stopProgress();
    const summary = summarizeMutants(judged, (performance.now() - begin) / 1000);
    session.write(flags.json ? `${JSON.stringify(summary)}\n` : describeMutants(summary, session.colours));
    return summary;
  } catch (error) {
    throw session.signal.aborted ? session.signal.reason : refused(error);
  } finally {
    farm.close();
  }
}
