import { constantsOf, fieldsOf } from "../kcore/build/structs.ts";
import type { Core } from "./core.ts";
import type { Machine } from "./qemu.ts";
import { symbolize } from "./symbols.ts";
import type { Tool } from "./tools.ts";

/** An event that the core recorded; see kcore/trace.ts. */
export interface CoreEvent {
  /** Counts all events since the core started. */
  readonly sequence: number;
  readonly cpu: number;
  /** Name of the kind, such as `VM_INIT`. */
  readonly kind: string;
  readonly values: readonly [bigint, bigint, bigint];
}

/** What the core left behind when it ended itself. */
export interface CorePanic {
  /** Name of the reason, such as `EL2_EXCEPTION`. */
  readonly reason: string;
  readonly cpu: number;
  readonly detail: bigint;
  readonly esr: bigint;
  readonly far: bigint;
  readonly elr: bigint;
  readonly spsr: bigint;
}

function symbolOf(core: Core, name: string): bigint {
  const address = core.symbols.get(name);
  if (address === undefined) throw new Error(`the core's image has no symbol ${name}`);
  return address;
}

function nameOf(constants: Map<string, number>, value: number): string {
  for (const [name, constant] of constants) if (constant === value) return name;
  return `${value}`;
}

/** The events that the core's ring still holds, oldest first. */
export async function readEvents(machine: Machine, core: Core): Promise<CoreEvent[]> {
  const ring = core.constants.TRACE_EVENTS * core.constants.TRACE_EVENT_SIZE;
  const bytes = await machine.readMemory(symbolOf(core, "TRACE_RING"), BigInt(ring));
  const state = await machine.readMemory(symbolOf(core, "CORE_STATE"), 4096n);
  const next = view(state).getUint32(fieldsOf("bootinfo.ts", "CoreState").get("traceNext") ?? 0, true);
  const kinds = constantsOf("trace.ts", "Event");
  const words = view(bytes);
  const events: CoreEvent[] = [];
  for (let sequence = Math.max(0, next - core.constants.TRACE_EVENTS); sequence < next; sequence++) {
    const at = (sequence % core.constants.TRACE_EVENTS) * core.constants.TRACE_EVENT_SIZE;
    events.push({
      sequence,
      cpu: words.getUint16(at + 2, true),
      kind: nameOf(kinds, words.getUint16(at, true)),
      values: [8, 16, 24].map((offset) => words.getBigUint64(at + offset, true)) as [bigint, bigint, bigint],
    });
  }
  return events;
}

/** The core's panic record, or undefined while it is well. */
export async function readPanic(machine: Machine, core: Core): Promise<CorePanic | undefined> {
  const bytes = view(await machine.readMemory(symbolOf(core, "PANIC_RECORD"), 4096n));
  const fields = fieldsOf("trace.ts", "PanicRecord");
  const word = (name: string): bigint => bytes.getBigUint64(fields.get(name) ?? 0, true);
  const reason = Number(word("reason"));
  if (reason === 0) return undefined;
  return {
    reason: nameOf(constantsOf("trace.ts", "Panic"), reason),
    cpu: Number(word("cpu")),
    detail: word("detail"),
    esr: word("esrEl2"),
    far: word("farEl2"),
    elr: word("elrEl2"),
    spsr: word("spsrEl2"),
  };
}

/** An event as one line. */
export function formatEvent(event: CoreEvent): string {
  const values = event.values.map((value) => `0x${value.toString(16)}`).join(" ");
  return `${String(event.sequence).padStart(8)}  cpu ${event.cpu}  ${event.kind.padEnd(18)} ${values}`;
}

/**
 * A panic for people: what, where in the core's TypeScript, the syndrome, and the last events.
 * @param addr2line of the toolchain that built the core
 */
export async function formatPanic(
  core: Core,
  panic: CorePanic,
  events: readonly CoreEvent[],
  addr2line: Tool,
): Promise<string> {
  const hex = (value: bigint) => `0x${value.toString(16)}`;
  const frames = await symbolize(core.elf, panic.elr, addr2line);
  return [
    `the core ended itself: ${panic.reason} ${hex(panic.detail)} on CPU ${panic.cpu}`,
    `  ESR_EL2 ${hex(panic.esr)}  FAR_EL2 ${hex(panic.far)}  ELR_EL2 ${hex(panic.elr)}  SPSR_EL2 ${hex(panic.spsr)}`,
    ...frames.map((frame) => `  in ${frame}`),
    "  last events:",
    ...events.slice(-16).map(formatEvent),
  ].join("\n");
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
