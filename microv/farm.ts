/**
 * Verifying on all processors: functions and lemmas are shared out to processes, each with a module and claims of its own, and what was
 * proved before is taken from a cache as long as nothing that it depends on has changed.
 */

import type { ChildProcess } from "node:child_process";
import { availableParallelism } from "node:os";
import { forkFile } from "./fork.ts";
import { DecodeError, decode, type Module } from "./module.ts";
import { type Claims, type ClaimsModule, complete, provable, type Verdict } from "./verify.ts";

/** How the processes work. All of it can be sent to a process. */
export interface FarmSettings {
  /** The file that exports the claims, as a `file:` URL. */
  readonly claims: string;
  readonly wasm: Uint8Array;
  /** JSON, when there is one. */
  readonly sourceMap?: string;
  /** Whether every answer needs a certificate that the checker accepts; what is cached is checked again then. */
  readonly certify: boolean;
  /** Folder for answers; nothing is kept when omitted. */
  readonly cache?: string;
  /** Folder for the solvers' files while they run; the system's when omitted. */
  readonly scratch?: string;
  /** Limits of one query. */
  readonly milliseconds: number;
  readonly megabytes: number;
  /** A process that has made more terms than this is replaced, for they fill its memory; a million by default. */
  readonly mostTerms?: number;
  /** Paths of native solvers, and which may be used. */
  readonly solvers?: readonly string[];
}

/** What a process is asked. */
export type Task =
  | { readonly kind: "function" | "lemma"; readonly name: string }
  | { readonly kind: "mutant"; readonly wasm: Uint8Array; readonly function: string };

/** What became of a mutant. */
export interface MutantVerdict {
  readonly status: "killed" | "equivalent" | "survived" | "undecided";
  readonly reason: string;
}

export type Answer =
  | { readonly verdict: Verdict; readonly reused: boolean }
  | { readonly mutant: MutantVerdict };

/** Messages from a process. */
export type FromWorker =
  | { readonly kind: "ready"; readonly solvers: readonly string[] }
  /** `full`: it has made so many terms that a new process is better. */
  | {
      readonly kind: "answer";
      readonly answer: Answer;
      readonly rejected: readonly string[];
      readonly full: boolean;
    }
  | { readonly kind: "error"; readonly message: string };

interface Job {
  readonly task: Task;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

/** Processes that answer tasks. Close it when done. */
export class Farm {
  readonly solvers = new Set<string>();
  /** Cache entries that were not believed. */
  readonly rejected: string[] = [];
  private readonly settings: FarmSettings;
  private readonly size: number;
  private readonly queue: Job[] = [];
  private readonly workers = new Map<ChildProcess, Job | undefined>();
  private readonly starting = new Set<ChildProcess>();
  private closed = false;

  constructor(settings: FarmSettings, processes = availableParallelism()) {
    this.settings = settings;
    this.size = processes;
  }

  /** @throws Error when a process cannot work at all: no solver, no claims */
  ask(task: Task): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.queue.push({ task, resolve, reject });
      this.dispatch();
    });
  }

  private dispatch(): void {
    while (this.queue.length > 0) {
      const idle = [...this.workers].find(([worker, job]) => !job && !this.starting.has(worker))?.[0];
      if (!idle) {
        if (this.workers.size < Math.min(this.size, this.queue.length + this.workers.size)) this.start();
        return;
      }
      const job = this.queue.shift() as Job;
      this.workers.set(idle, job);
      idle.send(job.task);
    }
  }

  private start(): void {
    const worker = forkFile("farm.worker.ts", { serialization: "advanced" }, [
      "--max-old-space-size=1200",
      "--max-semi-space-size=32",
    ]);
    this.workers.set(worker, undefined);
    this.starting.add(worker);
    worker.on("message", (message: FromWorker) => this.receive(worker, message));
    const lost = (reason: string): void => this.lose(worker, reason);
    worker.on("error", (error) => lost(error.message));
    worker.on("exit", (code, signal) => lost(signal ?? `exit status ${code}`));
    worker.send(this.settings);
  }

  private receive(worker: ChildProcess, message: FromWorker): void {
    const job = this.workers.get(worker);
    if (message.kind === "ready") {
      for (const name of message.solvers) this.solvers.add(name);
      this.starting.delete(worker);
    } else if (message.kind === "answer") {
      this.rejected.push(...message.rejected);
      this.workers.set(worker, undefined);
      if (message.full) this.retire(worker);
      job?.resolve(message.answer);
    } else {
      this.fail(new Error(message.message));
    }
    this.dispatch();
  }

  private retire(worker: ChildProcess): void {
    this.workers.delete(worker);
    worker.removeAllListeners();
    worker.kill();
  }

  /** A process that dies takes only its task with it. */
  private lose(worker: ChildProcess, reason: string): void {
    if (this.closed || !this.workers.has(worker)) return;
    const job = this.workers.get(worker);
    const wasStarting = this.starting.delete(worker);
    this.workers.delete(worker);
    if (wasStarting) this.fail(new Error(`a verifying process does not start: ${reason}`));
    job?.reject(new Error(`the process died: ${reason}`));
    this.dispatch();
  }

  private fail(error: Error): void {
    for (const job of [...this.queue.splice(0), ...this.workers.values()]) job?.reject(error);
  }

  close(): void {
    this.closed = true;
    for (const worker of [...this.workers.keys()]) this.retire(worker);
    this.queue.length = 0;
  }
}

export interface VerifyOptions extends FarmSettings {
  /** Processes; the number of processors by default. */
  readonly processes?: number;
  /** Only functions and lemmas of which this holds; what is left out is not judged. */
  readonly only?: (name: string) => boolean;
  readonly onVerdict?: (verdict: Verdict, done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** What a verification found. */
export interface Report {
  readonly module: Module;
  readonly claims: Claims;
  /** Functions in the order of the module, then lemmas. */
  readonly verdicts: readonly Verdict[];
  readonly solvers: readonly string[];
  /** Cache entries that were not believed, in words. */
  readonly rejected: readonly string[];
  /** Problems whose proof was taken from the cache. */
  readonly reused: number;
}

/**
 * Verifies a core.
 * @throws DecodeError when the bytes are no module that is supported; Error when the claims are not about it, or nothing can be solved
 */
export async function verify(options: VerifyOptions): Promise<Report> {
  const { only = () => true, onVerdict, signal, processes } = options;
  const module = decode(options.wasm);
  const { claimsOf } = (await import(options.claims)) as ClaimsModule;
  const claims = claimsOf(module);
  for (const contract of claims.contracts) requirePresent(module, contract.function);
  const tasks: Task[] = [
    ...provable(claims, module).map((contract): Task => ({ kind: "function", name: contract.function })),
    ...claims.lemmas.map(({ name }): Task => ({ kind: "lemma", name })),
  ].filter((task) => "name" in task && only(task.name));
  const { onVerdict: _, only: __, signal: ___, processes: ____, ...settings } = options;
  const farm = new Farm(settings, processes);
  signal?.addEventListener("abort", () => farm.close(), { once: true });
  const verdicts: Verdict[] = [];
  let reused = 0;
  try {
    await Promise.all(
      tasks.map(async (task) => {
        const verdict = await judged(farm, task);
        if (verdict.reused) reused++;
        verdicts.push(verdict.verdict);
        onVerdict?.(verdict.verdict, verdicts.length, tasks.length);
      }),
    );
  } finally {
    farm.close();
  }
  const order = new Map(tasks.map((task, index) => ["name" in task ? task.name : "", index]));
  verdicts.sort((a, b) => (order.get(a.name) ?? 0) - (order.get(b.name) ?? 0));
  return {
    module,
    claims,
    verdicts: complete(claims, module, verdicts).filter(({ name }) => only(name)),
    solvers: [...farm.solvers],
    rejected: farm.rejected,
    reused,
  };
}

/** A task's verdict; one whose process died has failed, and says so. */
async function judged(farm: Farm, task: Task): Promise<{ verdict: Verdict; reused: boolean }> {
  const failed = (reason: string): Verdict => ({
    name: "name" in task ? task.name : task.function,
    kind: task.kind === "lemma" ? "lemma" : "function",
    status: "failed",
    reason,
    goals: [],
    executed: [],
    counterexamples: [],
  });
  const answer = await farm.ask(task).catch((error: Error) => {
    if (/does not start|no solver|claims/.test(error.message)) throw error;
    return error;
  });
  if (answer instanceof Error) return { verdict: failed(answer.message), reused: false };
  return "verdict" in answer ? answer : { verdict: failed("it was answered as a mutant"), reused: false };
}

function requirePresent(module: Module, name: string): void {
  if (!module.functions.some((f) => f.name === name))
    throw new Error(`the claims name ${name}, but the module has no function of that name`);
}

export { DecodeError };
