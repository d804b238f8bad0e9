/**
 * Bugs written by hand, of the kinds that hypervisors have had: the proof of the function that has one fails, and says why. As it is, the
 * same function is proved (`corevisor verify`), so it is the bug that fails.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { cacheFolder } from "../../boot/cache.ts";
import { buildWasm } from "../../kcore/build/wasm.ts";
import {
  decode,
  ExecutionError,
  findSolvers,
  functionProblem,
  prove,
  type Result,
} from "../../microv/index.ts";
import { claimsOf } from "../claims.ts";

interface Bug {
  readonly bug: string;
  /** The core's text, which occurs once in the file, and what is there instead. */
  readonly file: string;
  readonly right: string;
  readonly wrong: string;
  /** The function whose proof fails, and a goal that fails. */
  readonly function: string;
  readonly goal: RegExp;
  /** What becomes of the goal: that it fails, unless it is that something can happen. */
  readonly status?: "vacuous";
}

const bugs: readonly Bug[] = [
  {
    bug: "a page returns to the host as the VM left it",
    file: "memory.ts",
    right: "  page_zero(pa);\n  page_clean(pa);",
    wrong: "  page_clean(pa);",
    function: "memory/giveToHost",
    goal: /a page returns to the host zeroed/,
  },
  {
    bug: "a page returns to the host with its zeroes in a cache",
    file: "memory.ts",
    right: "  page_zero(pa);\n  page_clean(pa);",
    wrong: "  page_clean(pa);\n  page_zero(pa);",
    function: "memory/giveToHost",
    goal: /clean in all caches/,
  },
  {
    bug: "a donated page is not cleaned",
    file: "memory.ts",
    right: "  page_clean(pa);\n  setOwner(s2pageIndex(pa), vm.handle",
    wrong: "  setOwner(s2pageIndex(pa), vm.handle",
    function: "memory/fill",
    goal: /clean in all caches/,
  },
  {
    bug: "a page in use is donated",
    file: "memory.ts",
    right: "!isRam(pa) || !isFreePage(s2pageIndex(pa))",
    wrong: "!isRam(pa) || !isHostPage(s2pageIndex(pa))",
    function: "memory/fill",
    goal: /a page in use is not donated/,
  },
  {
    bug: "locks are taken in the other order",
    file: "memory.ts",
    right: "function donate(vm: Vm, ipa: u64): u32 {\n  acquire(LOCK_HOSTMAP);\n  acquire(LOCK_S2PAGE);",
    wrong: "function donate(vm: Vm, ipa: u64): u32 {\n  acquire(LOCK_S2PAGE);\n  acquire(LOCK_HOSTMAP);",
    function: "memory/fill",
    goal: /locks are taken in order/,
  },
  {
    bug: "TLBs keep what they joined of a mapping that is gone and of the guest's own",
    file: "tlb.ts",
    right: "  tlbi_vmalle1is();\n  dsb_ish();",
    wrong: "  dsb_ish();",
    function: "pgtable/clearEntry",
    goal: /stale/,
  },
  {
    bug: "TLBs are told before the mapping is gone",
    file: "pgtable.ts",
    right: "  pt_write(slot, 0);\n  tlbFlushIpa(vttbr, ipa);",
    wrong: "  tlbFlushIpa(vttbr, ipa);\n  pt_write(slot, 0);",
    function: "pgtable/clearEntry",
    goal: /stale/,
  },
  {
    bug: "a table has 256 entries",
    file: "pgtable.ts",
    right: "(((ipa >> levelShift(level)) & 511) << 3)",
    wrong: "(((ipa >> levelShift(level)) & 255) << 3)",
    function: "npt/nptWalk",
    goal: /the slot stands at the level/,
  },
  {
    bug: "another VM's TLB entries are invalidated",
    file: "npt.ts",
    right: "nptRoot(slot) | ((<u64>slot) << 48)",
    wrong: "nptRoot(slot) | ((<u64>(slot ^ 1)) << 48)",
    function: "memory/dropLeaf",
    goal: /VTTBR_EL2/,
  },
  {
    bug: "the host's list is written without the owner table's lock",
    file: "vm.ts",
    right: "    acquire(LOCK_S2PAGE);\n    if (isRam(pa) && isHostPage(s2pageIndex(pa))) {",
    wrong: "    if (isRam(pa) && isHostPage(s2pageIndex(pa))) {",
    function: "vm/returnDonated",
    goal: /LOCK_S2PAGE|a lock that is held/,
  },
  {
    bug: "a vCPU's address is asked for again after it was pinned",
    file: "vm.ts",
    right: "    vcpu.pa = pa;",
    wrong: "    vcpu.pa = translateRange(hva, profile.vcpuSize);",
    function: "vm/initVcpuLocked",
    goal: /./,
  },
  {
    bug: "a use is not counted down",
    file: "memory.ts",
    right: "if (entry != 0) dropEntry(slot, entry, 3);",
    wrong: "if (entry != 0) pt_write(slot, 0);",
    function: "memory/emptyTable",
    goal: /./,
  },
  {
    bug: "the guest's SP_EL0 stays in the machine",
    file: "vcpu.ts",
    right: "  msr_sp_el0(cpu.spEl0);\n",
    wrong: "",
    function: "vcpu/leaveGuest",
    goal: /registers|sp_el0/,
  },
  {
    bug: "a guest runs without stage 2",
    file: "vcpu.ts",
    right: "const HCR_ALWAYS: u64 = HCR_VM | HCR_FMO",
    wrong: "const HCR_ALWAYS: u64 = HCR_FMO",
    function: "vcpu/enterGuest",
    goal: /HCR_EL2|registers/,
  },
  {
    bug: "the profiling buffer is drained before what stops it is in force",
    file: "vcpu.ts",
    right: "      isb();\n      psb_csync();\n",
    wrong: "      psb_csync();\n      isb();\n",
    function: "vcpu/enterGuest",
    goal: /what stops the buffer is in force/,
  },
  {
    bug: "the trace buffer is not drained before a guest runs",
    file: "vcpu.ts",
    right: "      tsb_csync();\n",
    wrong: "",
    function: "vcpu/enterGuest",
    goal: /what TRBE recorded of the host is written/,
  },
  {
    bug: "another instruction of the host is carried out than the one that trapped",
    file: "hosttrap.ts",
    right: "instructionAt(mrs_elr_el2())",
    wrong: "instructionAt(mrs_far_el2())",
    function: "hosttrap/emulateAccess",
    goal: /it is the instruction that trapped/,
  },
  {
    bug: "a fault that the host is told of is forgotten",
    file: "vcpu.ts",
    right: "if (status != Fill.READ_ONLY && (status & Fill.DENIED) == 0) vcpu.fault = 0;",
    wrong: "vcpu.fault = 0;",
    function: "hostcall/vcpuRun",
    goal: /a fault that the host is told of stays/,
  },
  {
    bug: "a CPU that was started is not expected",
    file: "psci.ts",
    right: "if (hostReg(cpu, 0) != 0) target.bootPending = 0;",
    wrong: "target.bootPending = 0;",
    function: "psci/cpuOn",
    goal: /a CPU that starts is expected/,
  },
  {
    bug: "a CPU that is on is still expected",
    file: "psci.ts",
    right: "  acquire(LOCK_PSCI);\n  cpu.bootPending = 0;\n  release(LOCK_PSCI);\n",
    wrong: "",
    function: "psci/suspend",
    goal: /a CPU that is on is not expected/,
  },
  {
    bug: "firmware starts a CPU where the host says",
    file: "psci.ts",
    right: "  setHostReg(cpu, entry, bootInfo.secondaryEntry);\n",
    wrong: "",
    function: "psci/cpuOn",
    goal: /firmware starts a CPU only in the core/,
  },
  {
    bug: "a CPU takes itself for another",
    file: "boot.ts",
    right: "export function bootCpu(cpu: Cpu, index: u32): void {\n  cpu.index = index;",
    wrong: "export function bootCpu(cpu: Cpu, index: u32): void {",
    function: "top/cpu_on",
    goal: /the host's context is whole/,
  },
  {
    bug: "a CPU comes back from suspension in the area of another",
    file: "psci.ts",
    right: "smcWithEntry(cpu, entry, cpu.index);",
    wrong: "smcWithEntry(cpu, entry, 0);",
    function: "psci/suspend",
    goal: /comes back as itself/,
  },
  {
    bug: "a CPU is started where the host did not ask",
    file: "psci.ts",
    right: "target.bootEntry = argument(cpu, 2);",
    wrong: "target.bootEntry = argument(cpu, 3);",
    function: "psci/cpuOn",
    goal: /comes up where the host asked/,
  },
  {
    bug: "the host's base moves the other way",
    file: "hosttrap.ts",
    right: "setHostReg(cpu, n, hostReg(cpu, n) + offset);",
    wrong: "setHostReg(cpu, n, hostReg(cpu, n) - offset);",
    function: "hosttrap/writeBack",
    goal: /linear changes as stated/,
  },
  {
    bug: "a page of the core is the host's to try for ever",
    file: "vm.ts",
    right: "let result = Reclaim.REFUSED;",
    wrong: "let result = Reclaim.RETURNED;",
    function: "hosttrap/hostAbort",
    goal: /the core's memory is refused/,
  },
  {
    bug: "the last CPU is not looked for",
    file: "psci.ts",
    right: "i < MAX_CPUS && i < <u32>bootInfo.cpus; i++",
    wrong: "i < MAX_CPUS && i + 1 < <u32>bootInfo.cpus; i++",
    function: "psci/cpuOn",
    goal: /a CPU that there is is found/,
  },
  {
    bug: "a CPU that is being started is started again",
    file: "psci.ts",
    right: "if (target.bootPending != 0) {",
    wrong: "if (target.bootPending == 2) {",
    function: "psci/cpuOn",
    goal: /is being started already/,
    status: "vacuous",
  },
  {
    bug: "the host is started without its device tree",
    file: "boot.ts",
    right: "enterHost(cpu, bootInfo.hostEntry, bootInfo.hostDtb);",
    wrong: "enterHost(cpu, bootInfo.hostEntry, 0);",
    function: "top/boot",
    goal: /the host starts/,
  },
  {
    bug: "a guest gets one of its registers from the place of another",
    file: "el1.ts",
    right: "msr_ttbr0_el1(host_read64(context + profile.ttbr0El1));",
    wrong: "msr_ttbr0_el1(host_read64(context + profile.ttbr1El1));",
    function: "el1/loadGuestEl1",
    goal: /seen has what is stated/,
  },
  {
    bug: "a register is written to the place of another",
    file: "el1.ts",
    right: "host_write64(context + profile.elrEl1, mrs_elr_el1());",
    wrong: "host_write64(context + profile.spsrEl1, mrs_elr_el1());",
    function: "el1/saveGuestEl1",
    goal: /told changes as stated/,
  },
  {
    bug: "the last page of a pin stays counted",
    file: "hostmem.ts",
    right: "i < MAX_PIN_PAGES && i < pages; i++) dropUse(first + i);",
    wrong: "i < MAX_PIN_PAGES && i + 1 < pages; i++) dropUse(first + i);",
    function: "hostmem/unpin",
    goal: /every page is counted down/,
  },
  {
    bug: "an address that stage 1 does not map has a translation",
    file: "hostmem.ts",
    right: "  if ((par & PAR_F) != 0) return 0;\n",
    wrong: "",
    function: "hostmem/translate",
    goal: /walked has what is stated/,
  },
  {
    bug: "a flush leaves what it is to take back",
    file: "memory.ts",
    right: "if ((entry & PTE_VALID) != 0) pt_write(slot, entry & ~PTE_VALID);\n  return nptNext",
    wrong: "return nptNext",
    function: "vm/flushRange",
    goal: /what is behind is taken back/,
  },
  {
    bug: "a block is donated where the host proposes a page",
    file: "memory.ts",
    right: "if ((leaf & LEVEL) < 3) status = donateBlock(vm, ipa, leaf);",
    wrong: "status = donateBlock(vm, ipa, leaf);",
    function: "memory/fill",
    goal: /the host proposes a block/,
  },
  {
    bug: "the host's tables go down where a block may be",
    file: "hostmap.ts",
    right: "const size = (<u64>1) << levelShift(level);",
    wrong: "const size = (<u64>2) << levelShift(level);",
    function: "hostmap/hostmapMap",
    goal: /a table is needed above the level/,
  },
  {
    bug: "a table that the host took back is valid again with all that it mapped",
    file: "memory.ts",
    right: "      retainEntries(entry & PTE_ADDRESS);\n      tlbFlushVmid",
    wrong: "      tlbFlushVmid",
    function: "memory/settle",
    goal: /a table that is valid again maps nothing/,
  },
  {
    bug: "a VMID is another VM's while TLBs keep the first one's own stage 1",
    file: "vm.ts",
    right: "  tlbFlushVmid(nptVttbr(slot));\n  returnDonated(vm, vm.hypVm",
    wrong: "  returnDonated(vm, vm.hypVm",
    function: "vm/teardownLocked",
    goal: /no TLB keeps what its own stage 1 said/,
  },
  {
    bug: "a guest's HCR_EL2 gets the core's bits at its exit",
    file: "vcpu.ts",
    right: "const pending = mrs_hcr_el2() & HCR_VSE;",
    wrong: "const pending = mrs_hcr_el2() ^ HCR_VSE;",
    function: "vcpu/leaveGuest",
    goal: /only whether an SError waits changes/,
  },
  {
    bug: "one page of a block is looked at for all",
    file: "memory.ts",
    right: "all = all && isFreePage(first + i);",
    wrong: "all = all && isFreePage(first);",
    function: "memory/donateBlock",
    goal: /all so far are free/,
  },
  {
    bug: "SVE registers are loaded before their length is in force",
    file: "fpsimd.ts",
    right: "isb();\n    sve_load_host(vcpu.svePa, image + FPSR);",
    wrong: "sve_load_host(vcpu.svePa, image + FPSR);\n    isb();",
    function: "guesttrap/guestSync",
    goal: /FP\/SIMD controls are in force/,
  },
  {
    bug: "a page of the host's is refused to a VM",
    file: "memory.ts",
    right: "slotLevel(found) != 3) return Fill.REFUSED;",
    wrong: "slotLevel(found) != 2) return Fill.REFUSED;",
    function: "memory/lendPage",
    goal: /it fails only when the pool is empty/,
  },
  {
    bug: "a structure of the largest size is not pinned",
    file: "hostmem.ts",
    right: "let mine = pages <= MAX_PIN_PAGES;",
    wrong: "let mine = pages < MAX_PIN_PAGES;",
    function: "hostmem/pin",
    goal: /what is refused is too large, or not the host.s/,
  },
  {
    bug: "the number of an event lands in its CPU's place",
    file: "trace.ts",
    right: "((<u64>sequence) << 32)",
    wrong: "((<u64>sequence) << 16)",
    function: "trace/trace",
    goal: /it is written down/,
  },
];

const solvers = await findSolvers();

/** What becomes of the goals that speak of the bug. */
async function judge(bug: Bug): Promise<Result[]> {
  const wasm = await buildWasm(cacheFolder(), (name, text) => {
    if (name !== bug.file) return text;
    assert.equal(text.split(bug.right).length, 2, `kcore/${name} has exactly once: ${bug.right}`);
    return text.replace(bug.right, () => bug.wrong);
  });
  const module = decode(wasm.bytes);
  const { theory, contracts } = claimsOf(module);
  const contract = contracts.find((one) => one.function === bug.function);
  assert.ok(contract, `there is a contract of ${bug.function}`);
  const problem = functionProblem(module, theory, contracts, contract);
  const goals = problem.goals.filter(({ name }) => bug.goal.test(name));
  assert.ok(goals.length > 0, "some goal speaks of it");
  return prove([{ ...problem, goals }], { solvers, stopEarly: true });
}

for (const bug of bugs) {
  test(`the proof of ${bug.function} fails when ${bug.bug}`, async () => {
    const results = await judge(bug).catch((error: unknown) => {
      // Code whose loops no longer fit their specification cannot even be executed.
      if (error instanceof ExecutionError) return error;
      throw error;
    });
    if (results instanceof ExecutionError) return;
    assert.ok(
      results.some(({ status }) => status === (bug.status ?? "failed")),
      `${bug.function} is proved all the same: ${results.map(({ name, status }) => `${name} ${status}`).join(", ")}`,
    );
  });
}
