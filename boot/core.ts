import { constantsOf, fieldsOf } from "../kcore/build/structs.ts";
import { buildWasm } from "../kcore/build/wasm.ts";
import { coreMappings, makeEl2Tables } from "./el2tables.ts";
import { BootError } from "./error.ts";
import type { Region } from "./fdt.ts";
import type { Job } from "./job.ts";
import { coreEntry, MiB } from "./layout.ts";
import { buildNative, el2TablePages, exportedConstant, exportedConstants } from "./native.ts";
import type { Profile, ProfileField } from "./profile.ts";
import type { Tools } from "./tools.ts";

/** How the core treats the VMs of the host. `private`: every page that a VM maps is taken from the host. */
export type VmMode = "ordinary" | "private";

/** What the core is told for one boot. */
export interface CoreOptions {
  readonly ram: Region;
  /** MPIDR_EL1 affinity of each CPU, the first one first. */
  readonly cpus: readonly bigint[];
  readonly coreRegion: Region;
  /** Where the core enters the host's kernel, and the device tree it hands over. */
  readonly hostEntry: bigint;
  readonly hostDtb: bigint;
  readonly profile: Profile;
  readonly vms: VmMode;
  /** Whether entries and exits of guests are recorded as well. */
  readonly traceExits: boolean;
}

/** A core ready to load. */
export interface Core {
  /** An arm64 Image with text_offset 0. */
  readonly image: Uint8Array;
  readonly wasmSha256: string;
  /** Addresses of the linker's symbols, and `linear_memory` areas by the names that the core exports. */
  readonly symbols: Map<string, bigint>;
  /** The constants that the core exports. */
  readonly constants: Readonly<Record<"TRACE_EVENTS" | "TRACE_EVENT_SIZE" | "MAX_CPUS", number>>;
  /** The linked file, with debug information. */
  readonly elf: string;
}

const pageSize = 4096n;

/**
 * Makes the core's image for one boot: the native code, with what the core must know filled in where it looks for it.
 *
 * The core region holds, in this order: the page-table roots (2 MiB), the image, the owner table, the pool.
 * @throws BootError when a tool is missing or the region is too small
 */
export async function assembleCore(job: Job, tools: Tools, options: CoreOptions): Promise<Core> {
  const wasm = await buildWasm(job.cache.root);
  const native = await buildNative(job, tools, wasm, coreEntry);
  const symbol = (name: string): bigint => {
    const address = native.symbols.get(name);
    if (address === undefined) throw new Error(`the core's image has no symbol ${name}`);
    return address;
  };
  const constants = exportedConstants(wasm);
  const areaOf = (name: string): bigint => symbol("linear_memory") + BigInt(constants.get(name) ?? 0);
  const { ram, coreRegion } = options;
  const ramPages = ram.size / pageSize;
  const ownerTable: Region = {
    base: alignUp(symbol("image_end"), 2n * MiB),
    size: alignUp(ramPages * 8n, pageSize),
  };
  const poolBase = ownerTable.base + ownerTable.size;
  const regionEnd = coreRegion.base + coreRegion.size;
  if (poolBase + MiB > regionEnd) {
    throw new BootError(
      `the core does not fit its region of ${coreRegion.size / MiB} MiB`,
      "give more --memory",
    );
  }
  const maxCpus = constants.get("MAX_CPUS") ?? 0;
  if (options.cpus.length > maxCpus) {
    throw new BootError(
      `--cpus ${options.cpus.length} is more than the core's ${maxCpus}`,
      `give --cpus ${maxCpus} or fewer`,
    );
  }

  const image = new Uint8Array(Number(symbol("image_end") - coreEntry));
  image.set(native.image);
  const words = new DataView(image.buffer);
  const put = (address: bigint, value: bigint) =>
    words.setBigUint64(Number(address - coreEntry), value, true);
  const fill = (base: bigint, fields: Map<string, number>, values: Readonly<Record<string, bigint>>) => {
    for (const [name, offset] of fields) {
      const value = values[name];
      if (value === undefined) throw new Error(`the core asks for ${name}, which nothing gives it`);
      put(base + BigInt(offset), value);
    }
  };
  fill(areaOf("BOOT_INFO"), fieldsOf("bootinfo.ts", "BootInfo"), {
    cpus: BigInt(options.cpus.length),
    ramBase: ram.base,
    ramPages,
    coreBase: coreRegion.base,
    corePages: coreRegion.size / pageSize,
    rootsBase: coreRegion.base,
    s2pageBase: ownerTable.base,
    poolBase,
    poolPages: (regionEnd - poolBase) / pageSize,
    hostEntry: options.hostEntry,
    hostDtb: options.hostDtb,
    secondaryEntry: symbol("secondary_cpu"),
    privateVms: options.vms === "private" ? 1n : 0n,
    traceExits: options.traceExits ? 1n : 0n,
  });
  for (const [index, mpidr] of options.cpus.entries())
    put(areaOf("BOOT_INFO") + 0x100n + BigInt(index * 8), mpidr);
  fill(areaOf("PROFILE"), fieldsOf("profile.ts", "Profile"), profileWords(options.profile));
  const tables = makeEl2Tables(
    symbol("el2_tables"),
    el2TablePages,
    coreMappings(ram, ownerTable, symbol, maxCpus),
  );
  image.set(tables, Number(symbol("el2_tables") - coreEntry));

  const symbols = new Map(native.symbols);
  for (const name of constants.keys()) symbols.set(name, areaOf(name));
  const constant = (name: string) => exportedConstant(wasm, name);
  return {
    image,
    wasmSha256: wasm.sha256,
    symbols,
    constants: {
      TRACE_EVENTS: constant("TRACE_EVENTS"),
      TRACE_EVENT_SIZE: constant("TRACE_EVENT_SIZE"),
      MAX_CPUS: constant("MAX_CPUS"),
    },
    elf: native.elf,
  };
}

function alignUp(value: bigint, to: bigint): bigint {
  return ((value + to - 1n) / to) * to;
}

/** Where a field of the core's profile comes from: names of the kernel's profile whose values are added up. */
const sources: Readonly<Record<string, readonly ProfileField[]>> = {
  vcpuSize: ["sizeof kvm_vcpu"],
  kvmSize: ["sizeof kvm"],
  createdVcpus: ["kvm.created_vcpus"],
  mmu: ["kvm.arch.mmu"],
  mmuPgdPhys: ["kvm.arch.mmu", "kvm_s2_mmu.pgd_phys"],
  mmuVtcr: ["kvm.arch.mmu", "kvm_s2_mmu.vtcr"],
  teardownHead: ["kvm.arch.pkvm.teardown_mc.head"],
  teardownPages: ["kvm.arch.pkvm.teardown_mc.nr_pages"],
  dbgBcr: ["kvm_guest_debug_arch.dbg_bcr"],
  dbgBvr: ["kvm_guest_debug_arch.dbg_bvr"],
  dbgWcr: ["kvm_guest_debug_arch.dbg_wcr"],
  dbgWvr: ["kvm_guest_debug_arch.dbg_wvr"],
  vcpuKvm: ["kvm_vcpu.kvm"],
  regs: ["kvm_vcpu.arch.ctxt.regs"],
  fpRegs: ["kvm_vcpu.arch.ctxt.fp_regs"],
  sveState: ["kvm_vcpu.arch.sve_state"],
  sveMaxVl: ["kvm_vcpu.arch.sve_max_vl"],
  cflags: ["kvm_vcpu.arch.cflags"],
  hcrEl2: ["kvm_vcpu.arch.hcr_el2"],
  hcrxEl2: ["kvm_vcpu.arch.hcrx_el2"],
  mdcrEl2: ["kvm_vcpu.arch.mdcr_el2"],
  vsesrEl2: ["kvm_vcpu.arch.vsesr_el2"],
  faultEsrEl2: ["kvm_vcpu.arch.fault.esr_el2"],
  faultFarEl2: ["kvm_vcpu.arch.fault.far_el2"],
  faultHpfarEl2: ["kvm_vcpu.arch.fault.hpfar_el2"],
  faultDisrEl1: ["kvm_vcpu.arch.fault.disr_el1"],
  iflags: ["kvm_vcpu.arch.iflags"],
  debugPtr: ["kvm_vcpu.arch.debug_ptr"],
  pmuEventsHost: ["kvm_vcpu.arch.pmu.events.events_host"],
  pmuEventsGuest: ["kvm_vcpu.arch.pmu.events.events_guest"],
  vgicV3: ["kvm_vcpu.arch.vgic_cpu.vgic_v3"],
  vgicHcr: ["kvm_vcpu.arch.vgic_cpu.vgic_v3.vgic_hcr"],
  vgicVmcr: ["kvm_vcpu.arch.vgic_cpu.vgic_v3.vgic_vmcr"],
  vgicSre: ["kvm_vcpu.arch.vgic_cpu.vgic_v3.vgic_sre"],
  vgicAp0r: ["kvm_vcpu.arch.vgic_cpu.vgic_v3.vgic_ap0r"],
  vgicAp1r: ["kvm_vcpu.arch.vgic_cpu.vgic_v3.vgic_ap1r"],
  vgicLr: ["kvm_vcpu.arch.vgic_cpu.vgic_v3.vgic_lr"],
  vgicUsedLrs: ["kvm_vcpu.arch.vgic_cpu.vgic_v3.used_lrs"],
};

/** sizeof struct pkvm_hyp_vm without its struct kvm and its list of vCPUs, roughly: which page count it leads to matters. */
const hypVmExtra = 1024;
/** sizeof struct pkvm_hyp_vcpu without its struct kvm_vcpu. */
const hypVcpuExtra = 16;

/** The words of class `Profile` of the core. A field of the form `sctlrEl1` is that register's place in sys_regs[]. */
function profileWords(profile: Profile): Record<string, bigint> {
  checkCalls(profile);
  const value = (name: string) => (profile.values as Readonly<Record<string, number>>)[name];
  const words: Record<string, bigint> = {};
  for (const [field, names] of Object.entries(sources)) {
    words[field] = BigInt(names.reduce((sum, name) => sum + profile.values[name], 0));
  }
  words.hypVmPages = BigInt(Math.ceil((profile.values["sizeof kvm"] + hypVmExtra) / 4096));
  words.hypVcpuPages = BigInt(Math.ceil((profile.values["sizeof kvm_vcpu"] + hypVcpuExtra) / 4096));
  for (const field of fieldsOf("profile.ts", "Profile").keys()) {
    const register = /^(\w+)El([01])$/.exec(field);
    if (words[field] !== undefined || !register) continue;
    const index = value(`vcpu_sysreg.${register[1]?.toUpperCase()}_EL${register[2]}`);
    if (index !== undefined) words[field] = BigInt(profile.values["kvm_vcpu.arch.ctxt.sys_regs"] + 8 * index);
  }
  return words;
}

/**
 * Checks that the kernel numbers its calls to EL2 as the core does.
 * @throws BootError when it does not: it is of another series than the core is written for
 */
function checkCalls(profile: Profile): void {
  const kernel = Object.entries(profile.values).flatMap(([name, number]) => {
    const call = /^__kvm_host_smccc_func\.__KVM_HOST_SMCCC_FUNC___+(?:pkvm_|kvm_)?(\w+)$/.exec(name)?.[1];
    return call === undefined ? [] : [[call.toUpperCase(), number] as const];
  });
  const core = constantsOf("hostcall.ts", "Call");
  const renamed: Readonly<Record<string, string>> = { INIT: "PKVM_INIT", VGIC_V3_INIT_LRS: "VGIC_INIT_LRS" };
  for (const [call, number] of kernel) {
    const name = renamed[call] ?? call.replace("VGIC_V3_", "VGIC_");
    if (core.get(name) === number) continue;
    throw new BootError(
      `kernel ${profile.release} numbers its call ${name} to EL2 ${number}, the core ${core.get(name) ?? "does not know it"}`,
      "use a Linux 6.12 kernel, or run with --core off",
    );
  }
}
