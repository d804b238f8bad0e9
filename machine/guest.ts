/** A guest: what software in a VM does on a CPU that runs it. Each function is one act; the host may be back after it. */
import type { Cpu } from "./cpu.ts";
import { type Access, Class, GuestVector, type Machine, syndrome } from "./machine.ts";
import { hex } from "./physical.ts";
import { Violation } from "./primitives.ts";

/** How an act of a guest ended: done, with what it read; or with an exit to the host. */
export type Act = { readonly value: bigint } | "exit";

const MAX_TRIES = 20;
const CPTR_TZ = 1n << 8n;
const CPTR_TFP = 1n << 10n;
const HCR_TWI = 1n << 13n;

/** A load, store or fetch of 64 bits. */
export function guestAccess(machine: Machine, cpu: Cpu, access: Access): Act {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const done = machine.attempt(cpu, access);
    if (done !== undefined) {
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

function after(cpu: Cpu): Act {
  return cpu.context === "guest" ? { value: 0n } : "exit";
}
