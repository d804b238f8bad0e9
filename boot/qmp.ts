import type { Duplex } from "node:stream";
import { z } from "zod";

/** One message from QEMU (docs/interop/qmp-spec.txt). */
const messageSchema = z.looseObject({
  return: z.unknown().optional(),
  error: z.object({ class: z.string(), desc: z.string() }).optional(),
  id: z.number().optional(),
  event: z.string().optional(),
  data: z.record(z.string(), z.unknown()).optional(),
});

/** Something that happened in QEMU: `SHUTDOWN` with `{ guest: true, reason: "guest-shutdown" }`. */
export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** QEMU's control connection. */
export class Qmp {
  readonly #stream: Duplex;
  readonly #waiting = new Map<
    number,
    { resolve: (value: unknown) => void; reject: (error: Error) => void }
  >();
  readonly #onEvent: (event: QmpEvent) => void;
  #rest = "";
  #nextId = 1;
  #closed = false;

  constructor(stream: Duplex, onEvent: (event: QmpEvent) => void) {
    this.#stream = stream;
    this.#onEvent = onEvent;
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => this.#receive(text));
    // A connection that breaks is told by the commands that wait, and by QEMU's own end.
    stream.on("error", () => this.#close());
    stream.on("close", () => this.#close());
  }

  /**
   * Runs a command of QEMU's.
   * @returns what QEMU returns
   * @throws Error with QEMU's words when it refuses, or when the connection ends first
   */
  execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    if (this.#closed) return Promise.reject(new Error(`QEMU is gone, ${command} was not run`));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#stream.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  #receive(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line.trim() === "") continue;
      const message = messageSchema.parse(JSON.parse(line));
      if (message.event !== undefined) {
        this.#onEvent({ name: message.event, data: message.data ?? {} });
      } else if (message.id !== undefined) {
        const waiting = this.#waiting.get(message.id);
        this.#waiting.delete(message.id);
        if (message.error) waiting?.reject(new Error(`QEMU: ${message.error.desc}`));
        else waiting?.resolve(message.return);
      }
    }
  }

  #close(): void {
    this.#closed = true;
    for (const { reject } of this.#waiting.values()) reject(new Error("QEMU closed its control connection"));
    this.#waiting.clear();
  }
}
