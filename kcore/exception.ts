/**
 * Changing where a context continues: skipping an emulated instruction, and entering the EL1 vectors for an
 * exception that the host or the core injects (Arm ARM AArch64.TakeException; arch/arm64/kvm/hyp/exception.c).
 */

/** Bits of `kvm_vcpu.arch.iflags` (asm/kvm_host.h). */
export const IFLAG_PENDING_EXCEPTION: u32 = 1 << 0;
export const IFLAG_INCREMENT_PC: u32 = 1 << 1;
export const IFLAG_EXCEPT_MASK: u32 = 7 << 1;
export const IFLAG_DEBUG_DIRTY: u32 = 1 << 4;
/** With IFLAG_PENDING_EXCEPTION: a synchronous exception to EL1 from AArch64. */
export const IFLAG_EXCEPT_AA64_EL1_SYNC: u32 = 0;

export const PSTATE_MODE: u64 = 0x1f;
export const PSTATE_EL0T: u64 = 0x0;
export const PSTATE_EL1T: u64 = 0x4;
export const PSTATE_EL1H: u64 = 0x5;
/** AArch32 User mode. */
export const PSTATE_A32_USER: u64 = 0x10;
const PSTATE_A32: u64 = 1 << 4;
const PSTATE_T32: u64 = 1 << 5;
const PSTATE_DAIF: u64 = 0xf << 6;
const PSTATE_BTYPE: u64 = 3 << 10;
const PSTATE_SSBS: u64 = 1 << 12;
const PSTATE_SS: u64 = 1 << 21;
const PSTATE_PAN: u64 = 1 << 22;
const PSTATE_DIT: u64 = 1 << 24;
const PSTATE_NZCV: u64 = 0xf << 28;
/** IT state of an AArch32 context: bits 26:25 and 15:10. */
const PSTATE_IT: u64 = (3 << 25) | (0x3f << 10);

const SCTLR_SPAN: u64 = 1 << 23;
const SCTLR_DSSBS: u64 = 1 << 44;
/** ESR_ELx.IL: the instruction was 32 bits long. */
const ESR_IL: u64 = 1 << 25;

/** Program counter behind the instruction at `pc` that trapped with `esr`. */
export function pcAfter(pc: u64, pstate: u64, esr: u64): u64 {
  const short = (pstate & PSTATE_A32) != 0 && (pstate & PSTATE_T32) != 0 && (esr & ESR_IL) == 0;
  return pc + (short ? 2 : 4);
}

/** PSTATE after an instruction was skipped: no branch type, no pending single step, IT block advanced. */
export function pstateAfter(pstate: u64): u64 {
  if ((pstate & PSTATE_A32) == 0) return pstate & ~(PSTATE_BTYPE | PSTATE_SS);
  return advanceIt(pstate & ~PSTATE_SS);
}

/** Moves an AArch32 context past one instruction of an IT block (Arm ARM AArch32.ITAdvance). */
function advanceIt(pstate: u64): u64 {
  const it = (((pstate >> 10) & 0x3f) << 2) | ((pstate >> 25) & 3);
  const next = (it & 7) == 0 ? 0 : (it & 0xe0) | ((it << 1) & 0x1f);
  return (pstate & ~PSTATE_IT) | ((next >> 2) << 10) | ((next & 3) << 25);
}

/** Where the EL1 vectors at `vbar` take a synchronous exception from a context with `pstate`. */
export function syncVector(vbar: u64, pstate: u64): u64 {
  const mode = pstate & PSTATE_MODE;
  if (mode == PSTATE_EL1H) return vbar + 0x200;
  if (mode == PSTATE_EL1T) return vbar;
  return vbar + ((mode & PSTATE_A32) == 0 ? 0x400 : 0x600);
}

/** PSTATE with which EL1 takes an exception from a context with `pstate`, under `sctlr`. */
export function exceptionPstate(pstate: u64, sctlr: u64): u64 {
  let entered = (pstate & (PSTATE_NZCV | PSTATE_DIT | PSTATE_PAN)) | PSTATE_DAIF | PSTATE_EL1H;
  if ((sctlr & SCTLR_SPAN) == 0) entered |= PSTATE_PAN;
  if ((sctlr & SCTLR_DSSBS) != 0) entered |= PSTATE_SSBS;
  return entered;
}
