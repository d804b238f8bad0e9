import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** What `corevisor verify` last found, and about which bytes. */
interface Verdict {
  readonly wasmSha256: string;
  /** Functions of the core. */
  readonly functions: number;
  /** Those whose every obligation is proved. */
  readonly proved: number;
  /** The others. */
  readonly unproved: readonly unknown[];
  /** Obligations that do not hold. */
  readonly failed: number;
  /** Obligations that hold only because nothing gets there. */
  readonly vacuous: number;
  /** Lemmas of the theorem about them, and how many are proved, where the verdict has them. */
  readonly lemmas?: number;
  readonly lemmasProved?: number;
}

/** What may be said about the proof of a core. */
export interface ProvedState {
  /** Whether every function of exactly these bytes is proved, and every lemma about them. */
  readonly proved: boolean;
  /** How many functions of these bytes are proved, of how many; undefined where nothing is known of these bytes. */
  readonly functions: { readonly proved: number; readonly all: number } | undefined;
  /** The same for people: `of these bytes 129 of 152 functions are proved`. */
  readonly words: string;
}

const verdictFile = join(dirname(dirname(fileURLToPath(import.meta.url))), "proof", "verdict.json");

/**
 * What is proved of the core with this hash. A verdict about other bytes says nothing about these: a core that was changed
 * after it was verified is not proved.
 * @param wasmSha256 SHA-256 of the wasm that runs, hexadecimal
 * @param file the verdict that `corevisor verify` wrote
 */
export function provedState(wasmSha256: string, file = verdictFile): ProvedState {
  const unknown = (words: string): ProvedState => ({ proved: false, functions: undefined, words });
  const verdict = readVerdict(file);
  if (verdict === "missing") return unknown("not proved: run npm run verify");
  if (verdict === "damaged") return unknown(`not proved: ${file} is damaged, run npm run verify`);
  if (verdict.wasmSha256 !== wasmSha256) return unknown("not the proved bytes: run npm run verify");
  const { functions: all, proved, unproved, failed, vacuous, lemmas = 0, lemmasProved = 0 } = verdict;
  const functions = { proved, all };
  const complete =
    all > 0 &&
    proved === all &&
    unproved.length === 0 &&
    failed === 0 &&
    vacuous === 0 &&
    lemmasProved === lemmas;
  if (complete) return { proved: true, functions, words: `all ${all} functions of these bytes are proved` };
  const faults = [
    ...(lemmasProved < lemmas ? [`${lemmasProved} of ${lemmas} lemmas`] : []),
    ...(failed > 0 ? [`${failed} obligations failed`] : []),
    ...(vacuous > 0 ? [`${vacuous} obligations are vacuous`] : []),
  ];
  const words = [`of these bytes ${proved} of ${all} functions are proved`, ...faults].join(", ");
  return { proved: false, functions, words };
}

function readVerdict(file: string): Verdict | "missing" | "damaged" {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return "missing";
  }
  try {
    const verdict: unknown = JSON.parse(text);
    return isVerdict(verdict) ? verdict : "damaged";
  } catch {
    return "damaged";
  }
}

function isVerdict(value: unknown): value is Verdict {
  if (typeof value !== "object" || value === null) return false;
  const { wasmSha256, unproved, ...rest } = value as Record<string, unknown>;
  const { lemmas = 0, lemmasProved = 0 } = rest;
  const counts = [rest.functions, rest.proved, rest.failed, rest.vacuous, lemmas, lemmasProved];
  return (
    typeof wasmSha256 === "string" &&
    Array.isArray(unproved) &&
    counts.every((count) => Number.isSafeInteger(count) && (count as number) >= 0)
  );
}
