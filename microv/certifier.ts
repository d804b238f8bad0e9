/** Checks certificates in processes of their own, so that the caller can go on making queries meanwhile. */

import type { ChildProcess } from "node:child_process";
import { checkProof, type ProofFormat, type Verdict } from "./certificate.ts";
import type { Cnf } from "./cnf.ts";
import { forkFile } from "./fork.ts";

export interface Request {
  readonly cnf: Cnf;
  readonly proof: Uint8Array;
  readonly format: ProofFormat;
}

interface Task {
  readonly request: Request;
  readonly resolve: (verdict: Verdict) => void;
  readonly reject: (error: Error) => void;
}

/** A pool of processes that run {@link checkProof}; with none, the caller's own does. */
export class Certifier {
  private readonly size: number;
  private readonly waiting: Task[] = [];
  private readonly idle: ChildProcess[] = [];
  private readonly busy = new Map<ChildProcess, Task>();

  constructor(processes: number) {
    this.size = processes;
  }

  check(request: Request): Promise<Verdict> {
    if (this.size === 0) return Promise.resolve(checkProof(request.cnf, request.proof, request.format));
    return new Promise((resolve, reject) => {
      this.waiting.push({ request, resolve, reject });
      this.dispatch();
    });
  }

  private dispatch(): void {
    const task = this.waiting[0];
    if (!task) return;
    const worker = this.idle.pop() ?? (this.busy.size < this.size ? this.start() : undefined);
    if (!worker) return;
    this.waiting.shift();
    this.busy.set(worker, task);
    worker.send(task.request);
  }

  private start(): ChildProcess {
    const worker = forkFile("certifier.worker.ts", { serialization: "advanced" });
    worker.on("message", (verdict: Verdict) => {
      this.busy.get(worker)?.resolve(verdict);
      this.busy.delete(worker);
      this.idle.push(worker);
      this.dispatch();
    });
    const fail = (reason: string): void => {
      this.busy.get(worker)?.reject(new Error(`the certificate checker died: ${reason}`));
      this.busy.delete(worker);
      this.dispatch();
    };
    worker.on("error", (error) => fail(error.message));
    worker.on("exit", (code, signal) => fail(signal ?? `exit status ${code}`));
    return worker;
  }

  close(): void {
    for (const worker of [...this.idle, ...this.busy.keys()]) {
      worker.removeAllListeners();
      worker.kill();
    }
  }
}
