/** Answers questions with evidence that was checked: the part of the prover that decides what counts. */

import type { ResultCache } from "./cache.ts";
import { Certifier } from "./certifier.ts";
import type { Model } from "./evaluate.ts";
import type { Limits } from "./process.ts";
import { type Proof, type Query, type Solver, solve } from "./solver.ts";

/** What questions are answered with. */
export interface Means {
  readonly solvers: readonly Solver[];
  /** Whether every `unsat` needs a certificate that the checker accepts; without a certifying solver nothing is proved then. */
  readonly certify?: boolean;
  readonly limits?: Partial<Limits>;
  readonly cache?: ResultCache;
}

/** A checked answer. */
export type Finding =
  | { readonly status: "unsat"; readonly solver: string; readonly certified: boolean }
  | { readonly status: "sat"; readonly solver: string; readonly model: Model }
  | { readonly status: "unknown"; readonly solver: string; readonly reason: string };

/** Answers queries with checked evidence, each question once. */
export class Investigator {
  private readonly options: Means;
  private readonly limits: Limits;
  private readonly certifier: Certifier;
  private readonly known = new Map<string, Promise<Finding>>();

  constructor(options: Means, parallel: number) {
    this.options = options;
    this.limits = { milliseconds: 60_000, megabytes: 2048, ...options.limits };
    this.certifier = new Certifier(parallel > 1 ? parallel - 1 : 0);
  }

  /** @param milliseconds for this question, where it is to be given up sooner than others */
  ask(query: Query, milliseconds = this.limits.milliseconds): Promise<Finding> {
    if (query.isFalse) return Promise.resolve({ status: "unsat", solver: "simplifier", certified: true });
    let finding = this.known.get(query.digest);
    if (!finding) {
      const limits = { ...this.limits, milliseconds: Math.min(milliseconds, this.limits.milliseconds) };
      finding = this.investigate(query, limits).catch(
        (error): Finding => ({
          status: "unknown",
          solver: "none",
          reason: error instanceof Error ? error.message : String(error),
        }),
      );
      this.known.set(query.digest, finding);
    }
    return finding;
  }

  private async investigate(query: Query, limits: Limits): Promise<Finding> {
    const kept = await this.fromCache(query);
    if (kept) return kept;
    const { certify = false, solvers } = this.options;
    const answer = await solve(query, solvers, limits, certify);
    if (answer.status === "unknown") return answer;
    const { solver } = answer;
    if (answer.status === "sat") {
      this.options.cache?.put(query.digest, { status: "sat", solver, model: answer.model });
      return answer;
    }
    if (certify && !answer.proof)
      return { status: "unknown", solver, reason: `${solver} gives no certificate` };
    if (!certify || !answer.proof) {
      this.options.cache?.put(query.digest, { status: "unsat", solver, proof: undefined });
      return { status: "unsat", solver, certified: false };
    }
    const verdict = await this.check(query, answer.proof);
    if (!verdict.ok)
      return { status: "unknown", solver, reason: `the certificate was refused: ${verdict.reason}` };
    this.options.cache?.put(query.digest, { status: "unsat", solver, proof: verdict.trimmed });
    return { status: "unsat", solver, certified: true };
  }

  private check(query: Query, proof: Proof) {
    return this.certifier.check({ cnf: query.blasted.cnf, proof: proof.bytes, format: proof.format });
  }

  private async fromCache(query: Query): Promise<Finding | undefined> {
    const { cache, certify } = this.options;
    const entry = cache?.get(query.digest);
    if (!cache || !entry) return undefined;
    const solver = `cache (${entry.solver})`;
    if (entry.status === "sat") {
      if (query.satisfiedBy(entry.model)) return { status: "sat", solver, model: entry.model };
      cache.reject(query.digest, "its model does not satisfy the formulas");
      return undefined;
    }
    if (cache.trust === "believe" && !certify) return { status: "unsat", solver, certified: false };
    if (!entry.proof) return undefined;
    const verdict = await this.check(query, { bytes: entry.proof, format: "binary" });
    if (verdict.ok) return { status: "unsat", solver, certified: true };
    cache.reject(query.digest, `its proof was refused: ${verdict.reason}`);
    return undefined;
  }

  close(): void {
    this.certifier.close();
  }
}
