import type { Cache } from "./cache.ts";

/** What a long piece of work is doing now. */
export interface Progress {
  /** What is being done, in a few words: `downloading qemu-system-arm`. */
  readonly stage: string;
  /** How far it is, 0 to 1, where that is known. */
  readonly fraction?: number;
}

/** Hears about progress. Called often: it must be quick and must not throw. */
export type OnProgress = (progress: Progress) => void;

/** What every long piece of work in boot/ is given: where to keep things, whom to tell, and when to give up. */
export interface Job {
  readonly cache: Cache;
  readonly onProgress: OnProgress;
  /** Aborted when the user interrupts; work then stops and rejects with the signal's reason. */
  readonly signal: AbortSignal;
}
