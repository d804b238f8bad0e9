/** What the command's exit status means. */
export const Status = {
  OK: 0,
  /** It ran, and what ran failed. */
  FAILED: 1,
  /** Bad input, or something is missing; nothing ran. */
  REFUSED: 2,
} as const;

/** The user or the system asked the command to stop. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  /** As a shell reports it: 128 + the signal's number. */
  readonly status: number;

  constructor(signal: keyof typeof signalStatus) {
    super(`interrupted by ${signal}`);
    this.status = signalStatus[signal];
  }
}

const signalStatus = { SIGHUP: 129, SIGINT: 130, SIGPIPE: 141, SIGTERM: 143 } as const;

/**
 * A signal that is aborted when this process is asked to stop, by Ctrl-C, by kill, by a terminal that closes, or because nobody
 * reads its output any more. A second Ctrl-C ends the process at once; its children end with it.
 */
export function interruption(): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  const stop = (name: keyof typeof signalStatus) => () => {
    const interrupted = new Interrupted(name);
    if (controller.signal.aborted) process.exit(interrupted.status);
    controller.abort(interrupted);
  };
  const handlers = (["SIGHUP", "SIGINT", "SIGTERM"] as const).map((name) => ({ name, handler: stop(name) }));
  for (const { name, handler } of handlers) process.on(name, handler);
  const brokenPipe = () => controller.abort(new Interrupted("SIGPIPE"));
  process.stdout.on("error", brokenPipe);
  return {
    signal: controller.signal,
    release: () => {
      for (const { name, handler } of handlers) process.off(name, handler);
    },
  };
}
