/**
 * Answers kept on disk, by the digest of the question.
 *
 * What is kept is evidence, not verdicts: the trimmed proof of an `unsat`, the model of a `sat`. How far an entry is believed is a choice:
 *
 * - `recheck` (always so when certifying): a model is evaluated and a proof is checked against clauses made anew from the formulas. Whoever
 *   writes the folder can then slow a run down and nothing else; the cache is not trusted at all. An `unsat` that came without a proof
 *   is asked again.
 * - `believe` (for the edit loop): models are evaluated all the same, but a proof is not checked again. An entry carries the digest of its
 *   own contents and of its question, so damage and careless edits are noticed; someone who recomputes the digest is believed. A
 *   secret key would not change that, as it would have to lie where the same person can read it. CI runs with `recheck`.
 *
 * An entry that is damaged, or whose evidence does not hold, counts as absent and is reported in {@link ResultCache.rejected}.
 */

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Model } from "./evaluate.ts";

export type Trust = "recheck" | "believe";

/** A kept answer. An `unsat` without a proof comes from a solver that writes none. */
export type Entry =
  | { readonly status: "unsat"; readonly solver: string; readonly proof: Uint8Array | undefined }
  | { readonly status: "sat"; readonly solver: string; readonly model: Model };

interface Stored {
  readonly question: string;
  readonly status: "sat" | "unsat";
  readonly solver: string;
  /** The trimmed proof in base 64. */
  readonly proof?: string;
  /** Variables and applications of the model, in decimal. */
  readonly model?: { readonly variables: [string, string][]; readonly applications: [string, string][] };
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

/** Digest of the verifier's own source: no answer outlives a change of the tool. */
export function toolDigest(): string {
  const folder = dirname(fileURLToPath(import.meta.url));
  const files = readdirSync(folder)
    .filter((name) => /\.(ts|js)$/.test(name))
    .sort();
  return sha256(files.map((name) => readFileSync(join(folder, name), "utf8")).join("\0"));
}

const pairs = (map: Map<string, bigint>) =>
  [...map].map(([key, value]): [string, string] => [key, value.toString()]);

function toModel(stored: NonNullable<Stored["model"]>): Model {
  const model = new Model();
  for (const [key, value] of stored.variables) model.variables.set(key, BigInt(value));
  for (const [key, value] of stored.applications) model.applications.set(key, BigInt(value));
  return model;
}

export class ResultCache {
  readonly trust: Trust;
  /** Entries that were not believed, with the reason. */
  readonly rejected: string[] = [];
  private readonly folder: string;
  private readonly tool = toolDigest();

  /** @param folder is made when it does not exist */
  constructor(folder: string, trust: Trust) {
    this.folder = folder;
    this.trust = trust;
    mkdirSync(folder, { recursive: true });
  }

  private path(question: string): string {
    return join(this.folder, `${sha256(this.tool + question)}.json`);
  }

  /** What was kept for a question, if it is intact. */
  get(question: string): Entry | undefined {
    let text: string;
    try {
      text = readFileSync(this.path(question), "utf8");
    } catch {
      return undefined;
    }
    try {
      const end = text.indexOf("\n");
      const contents = text.slice(end + 1);
      if (text.slice(0, end) !== sha256(contents))
        throw new Error("its contents are not those that were written");
      const stored = JSON.parse(contents) as Stored;
      if (stored.question !== question) throw new Error("it answers another question");
      if (stored.status === "sat" && stored.model)
        return { status: "sat", solver: stored.solver, model: toModel(stored.model) };
      if (stored.status !== "unsat") throw new Error("it is no answer");
      const proof =
        stored.proof === undefined ? undefined : new Uint8Array(Buffer.from(stored.proof, "base64"));
      return { status: "unsat", solver: stored.solver, proof };
    } catch (error) {
      this.reject(question, error instanceof Error ? error.message : String(error));
      return undefined;
    }
  }

  put(question: string, entry: Entry): void {
    const stored: Stored = {
      question,
      status: entry.status,
      solver: entry.solver,
      ...(entry.status === "unsat" && entry.proof && { proof: Buffer.from(entry.proof).toString("base64") }),
      ...(entry.status === "sat" && {
        model: { variables: pairs(entry.model.variables), applications: pairs(entry.model.applications) },
      }),
    };
    const contents = JSON.stringify(stored);
    const path = this.path(question);
    writeFileSync(`${path}.${process.pid}`, `${sha256(contents)}\n${contents}`);
    renameSync(`${path}.${process.pid}`, path);
  }

  /** Records that an entry was not believed. */
  reject(question: string, reason: string): void {
    this.rejected.push(`cache entry ${this.path(question)} was not used: ${reason}`);
  }
}
