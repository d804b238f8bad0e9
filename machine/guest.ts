/** A guest: what software in a VM does on a CPU that runs it. Each function is one act; the host may be back after it. */
import type { Cpu } from "./cpu.ts";
import { type Access, Class, GuestVector, type Machine, syndrome } from "./machine.ts";
import { hasFeature } from "./models.ts";
import { hex } from "./physical.ts";
import { Violation } from "./primitives.ts";
import { registerNames } from "./registers.ts";

/** How an act of a guest ended: done, with what it read; with an exit to the host; or with a fault of its own stage 1. */
export type Act = { readonly value: bigint } | "exit" | "own fault";

const MAX_TRIES = 20;
const CPTR_TZ = 1n << 8n;
const CPTR_TFP = 1n << 10n;
const HCR_TWI = 1n << 13n;

/** A load, store or fetch of 64 bits. */
export function guestAccess(machine: Machine, cpu: Cpu, access: Access): Act {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const done = machine.attempt(cpu, access);
    if (done !== "trapped") {
      cpu.pc += 4n;
      return done;
    }
    if (cpu.context !== "guest") return "exit";
  }
  throw new Violation("guestMakesProgress", `an access of a guest to ${hex(access.va)} never ends`);
}

/** Reads 64 bits; the guest's stage 1 is off. */
export function guestRead(machine: Machine, cpu: Cpu, ipa: number, cacheable = true): Act {
  return guestAccess(machine, cpu, { kind: "read", va: BigInt(ipa), cacheable });
}

/** Writes 64 bits. */
export function guestWrite(machine: Machine, cpu: Cpu, ipa: number, value: bigint, cacheable = true): Act {
  cpu.x[0] = value;
  return guestAccess(machine, cpu, { kind: "write", va: BigInt(ipa), value, cacheable });
}

/** HVC with the arguments in x0 and on. */
export function guestHypercall(machine: Machine, cpu: Cpu, ...args: readonly bigint[]): Act {
  for (const [n, value] of args.entries()) cpu.x[n] = value;
  machine.trapFromGuest(cpu, GuestVector.TRAP, syndrome(Class.HVC64), cpu.pc + 4n);
  return after(cpu);
}

/** SMC, which the core traps. */
export function guestSmc(machine: Machine, cpu: Cpu): Act {
  machine.trapFromGuest(cpu, GuestVector.TRAP, syndrome(Class.SMC64), cpu.pc);
  return after(cpu);
}

/** WFI, where the host wants to know of it. */
export function guestWait(machine: Machine, cpu: Cpu): Act {
  if ((cpu.registers.get("hcr_el2") & HCR_TWI) === 0n) return { value: 0n };
  machine.trapFromGuest(cpu, GuestVector.TRAP, syndrome(Class.WFX), cpu.pc);
  return after(cpu);
}

/** An interrupt for the host arrives while the guest runs. */
export function interrupt(machine: Machine, cpu: Cpu): Act {
  machine.trapFromGuest(cpu, GuestVector.IRQ, 0n, cpu.pc);
  return after(cpu);
}

/** A system error arrives while the guest runs. */
export function systemError(machine: Machine, cpu: Cpu): Act {
  machine.trapFromGuest(cpu, GuestVector.SERROR, syndrome(0x2f), cpu.pc);
  return after(cpu);
}

/** Any other instruction that traps with this syndrome. */
export function guestTraps(machine: Machine, cpu: Cpu, esr: bigint): Act {
  machine.trapFromGuest(cpu, GuestVector.TRAP, esr, cpu.pc);
  return after(cpu);
}

/** Uses FP/SIMD: every v register becomes `value` in both halves. Exits if the core does not let it. */
export function guestFp(machine: Machine, cpu: Cpu, value: bigint): Act {
  if ((cpu.registers.get("cptr_el2") & CPTR_TFP) !== 0n) {
    machine.trapFromGuest(cpu, GuestVector.TRAP, syndrome(Class.FP_ASIMD), cpu.pc);
    if (cpu.context !== "guest") return "exit";
    if ((cpu.registers.get("cptr_el2") & CPTR_TFP) !== 0n)
      throw new Violation("guestMakesProgress", "FP/SIMD stays trapped");
  }
  for (let n = 0; n < 32; n++) cpu.setV(n, value, value);
  return { value };
}

/** Uses SVE: every byte of z and p registers becomes that of `value`. */
export function guestSve(machine: Machine, cpu: Cpu, value: bigint): Act {
  if ((cpu.registers.get("cptr_el2") & CPTR_TZ) !== 0n) {
    machine.trapFromGuest(cpu, GuestVector.TRAP, syndrome(Class.SVE), cpu.pc);
    if (cpu.context !== "guest") return "exit";
    if ((cpu.registers.get("cptr_el2") & CPTR_TZ) !== 0n)
      throw new Violation("guestMakesProgress", "SVE stays trapped");
  }
  cpu.z.fill(value);
  cpu.p.fill(Number(value & 0xffn));
  return { value };
}

/**
 * Registers that software at EL1 can write, with the control that makes an access of a guest trap instead; what is not
 * here either always traps or does not exist for the core to lose.
 */
const guestRegisters: readonly (readonly [pattern: RegExp, isOpen: (cpu: Cpu) => boolean])[] = [
  [/^(sctlr|cpacr|ttbr0|ttbr1|tcr|esr|afsr0|afsr1|far|mair|vbar|contextidr|amair|cntkctl)_el1$/, always],
  [/^(par|tpidr|sp|elr|spsr|mdscr)_el1$|^(sp|tpidr|tpidrro)_el0$/, always],
  [/^tcr2_el1$/, (cpu) => control(cpu, "hcrx_el2", 14)],
  [/^pire?0?_el1$/, (cpu) => control(cpu, "hfgwtr_el2", 58)],
  [/^por_el[01]$/, (cpu) => control(cpu, "hfgwtr_el2", 59)],
  [/^ap[a-z]+key/, (cpu) => control(cpu, "hcr_el2", 40)],
  [/^dbg[bw][cv]r/, (cpu) => !control(cpu, "mdcr_el2", 9)],
  [/^mdccint_el1$/, (cpu) => !control(cpu, "mdcr_el2", 9) && !control(cpu, "mdcr_el2", 27)],
  [/^zcr_el1$/, (cpu) => !control(cpu, "cptr_el2", 8)],
  [/^smpri_el1$/, (cpu) => control(cpu, "hfgwtr_el2", 54) || !hasFeature(cpu.model, "FGT")],
  [/^tpidr2_el0$/, (cpu) => control(cpu, "hfgwtr_el2", 55) || !hasFeature(cpu.model, "FGT")],
];

function always(): boolean {
  return true;
}

function control(cpu: Cpu, register: string, bit: number): boolean {
  return ((cpu.registers.get(register) >> BigInt(bit)) & 1n) === 1n;
}

/** Names of the registers that the guest on `cpu` can write at this moment, of those that were ever spoken of. */
export function writableByGuest(cpu: Cpu): string[] {
  return ["smpri_el1", "tpidr2_el0", ...registerNames()].filter(
    (name) =>
      cpu.registers.has(name) &&
      guestRegisters.some(([pattern, isOpen]) => pattern.test(name) && isOpen(cpu)),
  );
}

/** Writes every register that the guest can write but those that its own stage 1 needs, each with a value of its own. */
export function guestClobber(cpu: Cpu, value: (name: string) => bigint): void {
  for (const name of writableByGuest(cpu)) {
    if (name !== "sctlr_el1") cpu.registers.set(name, value(name));
  }
  for (let n = 0; n < 31; n++) cpu.x[n] = BigInt.asUintN(64, value(`x${n}`));
}

function after(cpu: Cpu): Act {
  return cpu.context === "guest" ? { value: 0n } : "exit";
}
