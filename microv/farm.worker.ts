/** A process of the {@link Farm}: proves what it is told. */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { ResultCache } from "./cache.ts";
import type { Answer, FarmSettings, FromWorker, Task } from "./farm.ts";
import { decode, type Module } from "./module.ts";
import { judgeMutant } from "./mutant.ts";
import { findSolvers, type NativeName, type Solver } from "./solver.ts";
import { SourceMap } from "./sourcemap.ts";
import { termCount } from "./term.ts";
import { VerdictCache } from "./verdictcache.ts";
import {
  type CheckOptions,
  type Claims,
  type ClaimsModule,
  checkFunction,
  checkLemma,
  fingerprint,
} from "./verify.ts";

const send = (message: FromWorker): void => void process.send?.(message);

class Worker {
  readonly mostTerms: number;
  private readonly claimsModule: ClaimsModule;
  private readonly module: Module;
  private readonly claims: Claims;
  private readonly options: CheckOptions;
  private readonly answers: ResultCache | undefined;
  private readonly verdicts: VerdictCache | undefined;

  constructor(settings: FarmSettings, claimsModule: ClaimsModule, solvers: readonly Solver[]) {
    this.mostTerms = settings.mostTerms ?? 1_000_000;
    this.claimsModule = claimsModule;
    this.module = decode(settings.wasm);
    this.claims = claimsModule.claimsOf(this.module);
    const { cache, certify } = settings;
    if (cache !== undefined) {
      this.answers = new ResultCache(join(cache, "answers"), certify ? "recheck" : "believe");
      if (!certify) this.verdicts = new VerdictCache(join(cache, "verdicts"), claimsModule.dependencies());
    }
    this.options = {
      module: this.module,
      sourceMap: settings.sourceMap === undefined ? undefined : new SourceMap(settings.sourceMap),
      solvers,
      certify,
      limits: { milliseconds: settings.milliseconds, megabytes: settings.megabytes },
      parallel: 1,
      ...(this.answers && { cache: this.answers }),
    };
  }

  async answer(task: Task): Promise<Answer> {
    if (task.kind === "mutant") {
      const mutant = await judgeMutant(this.claimsModule, this.options, task.wasm, task.function);
      return { mutant };
    }
    if (task.kind === "lemma") {
      const lemma = this.claims.lemmas.find(({ name }) => name === task.name);
      if (!lemma) throw new Error(`there is no lemma ${task.name}`);
      const known = this.verdicts?.get(`lemma ${task.name}`);
      if (known) return { verdict: known, reused: true };
      const verdict = await checkLemma(lemma, this.options);
      this.verdicts?.put(`lemma ${task.name}`, verdict);
      return { verdict, reused: false };
    }
    const contract = this.claims.contracts.find((one) => one.function === task.name);
    if (!contract) throw new Error(`there is no contract of ${task.name}`);
    const key = fingerprint(this.module, this.claims.contracts, contract);
    const known = this.verdicts?.get(key);
    if (known) return { verdict: known, reused: true };
    const verdict = await checkFunction(this.claims, contract, this.options);
    this.verdicts?.put(key, verdict);
    return { verdict, reused: false };
  }

  /** Cache entries that were not believed since the last call. */
  rejected(): string[] {
    return [...(this.answers?.rejected.splice(0) ?? []), ...(this.verdicts?.rejected.splice(0) ?? [])];
  }
}

// By way of `exit`, which ends the solvers too.
process.on("SIGTERM", () => process.exit());
process.on("disconnect", () => process.exit());

let worker: Promise<Worker> | undefined;

async function start(settings: FarmSettings): Promise<Worker> {
  const claimsModule = (await import(settings.claims)) as ClaimsModule;
  if (settings.scratch !== undefined) mkdirSync(settings.scratch, { recursive: true });
  const solvers = await findSolvers({
    ...(settings.scratch !== undefined && { folder: settings.scratch }),
    ...(settings.solvers && { only: settings.solvers as (NativeName | "wasm")[] }),
  });
  const made = new Worker(settings, claimsModule, solvers);
  send({ kind: "ready", solvers: solvers.map(({ name }) => name) });
  return made;
}

process.on("message", (message: FarmSettings | Task) => {
  const work = async (): Promise<void> => {
    if ("claims" in message) {
      worker = start(message);
      await worker;
      return;
    }
    const ready = (await worker) as Worker;
    const answer = await ready.answer(message);
    send({ kind: "answer", answer, rejected: ready.rejected(), full: termCount() > ready.mostTerms });
  };
  work().catch((error: unknown) => {
    send({ kind: "error", message: error instanceof Error ? error.message : String(error) });
  });
});
