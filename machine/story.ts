/**
 * What the demo tells, in process and in seconds: a host comes up on the core, runs a VM and a private VM, and attacks the core
 * and the private VM in every way it has. Every invariant of `invariants.ts` is checked at each step.
 *
 * Reports have the shape of those that a booted host makes (boot/story.ts), so that one face shows both.
 */
import { type CoreModule, loadCore } from "./core.ts";
import type { Cpu } from "./cpu.ts";
import { Psci, smc64 } from "./firmware.ts";
import { guestAccess, guestHypercall, guestRead, guestWrite, interrupt } from "./guest.ts";
import { Invariants } from "./invariants.ts";
import { Exit, type HostVcpu, type HostVm, Kernel } from "./kernel.ts";
import { Machine } from "./machine.ts";
import type { CpuModelName } from "./models.ts";
import { hex, PAGE_SIZE } from "./physical.ts";
import { chooseStructures } from "./structures.ts";

export interface StoryOptions {
  /** CPUs of the machine, 2 to 64; 2 when left out. */
  readonly cpus?: number;
  readonly model?: CpuModelName;
  /** Called at each report, as it is made. */
  readonly onEvent?: (event: StoryReport) => void;
  /** The core to tell it of, for tests: with which seeded bug, and whether to go on where an invariant breaks. */
  readonly core?: CoreModule;
  readonly mutant?: number;
  readonly unwatched?: boolean;
}

export interface HostReport {
  readonly event: "host";
  readonly kernel: string;
  readonly kvmMode: string;
  readonly cpus: number;
  readonly memoryKiB: number;
}

export interface GuestReport {
  readonly event: "guest";
  readonly kind: "ordinary" | "private";
  readonly vcpus: number;
  readonly online: number;
  readonly booted: boolean;
  readonly poweredOff: boolean;
}

export interface AttackReport {
  readonly event: "attack";
  readonly target: "core" | "vm";
  readonly name: string;
  readonly result: "succeeded" | "refused";
  /** What the attacker saw. */
  readonly detail: string;
}

export interface CheckReport {
  readonly event: "check";
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

export type StoryReport = HostReport | GuestReport | AttackReport | CheckReport;

export interface Story {
  /** True when every guest booted and powered off, every attack was refused and every check passed. */
  readonly ok: boolean;
  readonly host: HostReport;
  readonly guests: readonly GuestReport[];
  readonly attacks: readonly AttackReport[];
  readonly checks: readonly CheckReport[];
  /** SHA-256 of the core's wasm. */
  readonly wasmSha256: string;
  /** Entries of the core, after each of which every invariant was checked. */
  readonly steps: number;
}

const SECRET = 0x5ec2_e75e_c2e7_0000n;
/** Words of a VM's memory that hold the secret: pages, and one block of 512. */
const SECRET_FRAMES = [0, 1, 2, 600, 1023];
const BLOCK_FRAME = 512;
const DEVICE_IPA = 0x900_0000;
const DEVICE_VALUE = 0x2a2an;
const USER_VA = 0x7000_0000n;

/** A machine, switched on, with the host's kernel on every CPU. */
class Scene {
  readonly machine: Machine;
  readonly kernel: Kernel;
  readonly invariants: Invariants;
  readonly cpu: Cpu;

  constructor(core: CoreModule, privateVms: boolean, options: StoryOptions) {
    const structures = chooseStructures(1);
    const { cpus = 2, model = "cortex-a76" } = options;
    if (!Number.isInteger(cpus) || cpus < 2 || cpus > 64)
      throw new RangeError(`${cpus} CPUs: the story needs 2 to 64`);
    this.machine = new Machine(core, {
      cpus,
      model,
      privateVms,
      profile: structures.profile,
      mutant: options.mutant ?? 0,
    });
    this.invariants = new Invariants(this.machine);
    if (options.unwatched) this.machine.watch = undefined;
    this.machine.powerOn();
    this.kernel = new Kernel(this.machine, structures);
    this.kernel.startAll();
    this.cpu = this.machine.cpu(0);
  }

  /** Lets a vCPU run on a CPU until it has done `act`, which returns "exit" as long as the host must help it. */
  live<T>(cpu: Cpu, vcpu: HostVcpu, act: () => T | "exit"): T {
    for (let tries = 0; tries < 10; tries++) {
      const entered = this.kernel.run(cpu, vcpu);
      if (entered !== "guest") throw new Error(`the vCPU does not run: exit code ${entered}`);
      const done = act();
      if (done !== "exit") {
        interrupt(this.machine, cpu);
        return done;
      }
      this.kernel.handleExit(vcpu, this.kernel.exitCode(cpu));
    }
    throw new Error("the guest makes no progress");
  }

  read(vcpu: HostVcpu, ipa: number): bigint {
    const done = this.live(this.cpu, vcpu, () => guestRead(this.machine, this.cpu, ipa));
    return typeof done === "object" ? done.value : 0n;
  }

  write(vcpu: HostVcpu, ipa: number, value: bigint): void {
    this.live(this.cpu, vcpu, () => guestWrite(this.machine, this.cpu, ipa, value));
  }
}

/**
 * Tells the story.
 * @throws CoreFailure or Violation when the core panics or breaks an invariant: each names the rule
 * @throws RangeError when there are too few or too many CPUs
 */
export async function tellStory(options: StoryOptions = {}): Promise<Story> {
  const core = options.core ?? (await loadCore());
  const reports: StoryReport[] = [];
  const tell = (report: StoryReport): void => {
    reports.push(report);
    options.onEvent?.(report);
  };
  const ordinary = new Scene(core, false, options);
  const { machine } = ordinary;
  const host: HostReport = {
    event: "host",
    kernel: "scripted",
    kvmMode: "protected",
    cpus: machine.cpus.filter(({ context }) => context === "host").length,
    memoryKiB: (machine.memory.pageCount * PAGE_SIZE) / 1024,
  };
  tell(host);
  tell(runVm(ordinary, "ordinary", () => {}));
  const scene = new Scene(core, true, options);
  tell(runVm(scene, "private", (vm) => attack(scene, vm, tell)));
  tell(afterwards(scene));
  const steps = ordinary.machine.entries + scene.machine.entries;
  if (!options.unwatched) for (const { invariants } of [ordinary, scene]) invariants.check();
  const name = "every invariant of the core holds after each of its steps";
  tell({ event: "check", name, ok: !options.unwatched, detail: `${steps} steps` });
  const of = <Name extends StoryReport["event"]>(event: Name) =>
    reports.filter((one): one is Extract<StoryReport, { event: Name }> => one.event === event);
  const [guests, attacks, checks] = [of("guest"), of("attack"), of("check")];
  const ok =
    guests.every(({ booted, poweredOff, online, vcpus }) => booted && poweredOff && online === vcpus) &&
    attacks.every(({ result }) => result === "refused") &&
    checks.every((check) => check.ok);
  return { ok, host, guests, attacks, checks, wasmSha256: core.sha256, steps };
}

/** Pages that VMs had when they ended, by the machine they were on. */
const ended = new WeakMap<Machine, number[]>();

/** A VM of two vCPUs: it uses memory and a device, its secret is attacked by `meanwhile`, and it powers off. */
function runVm(scene: Scene, kind: GuestReport["kind"], meanwhile: (vm: HostVm) => void): GuestReport {
  const { machine, kernel, cpu } = scene;
  const vm = kernel.createVm(cpu);
  const vcpus = [kernel.createVcpu(cpu, vm), kernel.createVcpu(cpu, vm, { pauth: true })];
  const base = vm.frames.first * PAGE_SIZE;
  // The VMM puts the VM's image there, so the host has used each page before it is the VM's.
  for (const frame of SECRET_FRAMES) {
    kernel.back(vm, vm.frames.first + frame, { level: frame < BLOCK_FRAME ? 3 : 2 });
    kernel.write(cpu, vm.backing.get(vm.frames.first + frame) as number, 1n);
  }
  let online = 0;
  for (const [n, vcpu] of vcpus.entries()) {
    const on = machine.cpu(n % machine.cpus.length);
    const entry = { kind: "execute", va: BigInt(base) } as const;
    const fetched = scene.live(on, vcpu, () => guestAccess(machine, on, entry));
    if (typeof fetched === "object") online++;
  }
  const [first] = vcpus as [HostVcpu];
  for (const frame of SECRET_FRAMES) scene.write(first, base + frame * PAGE_SIZE, SECRET + BigInt(frame));
  const device = readDevice(scene, first);
  const remembers = holdsSecret(scene, vm);
  meanwhile(vm);
  const poweredOff = powerOff(scene, first);
  ended.set(machine, [...vm.backing.values()]);
  const gone = kernel.destroyVm(cpu, vm) === 0n;
  return {
    ...{ event: "guest", kind, vcpus: vcpus.length, online },
    booted: remembers && device === DEVICE_VALUE,
    poweredOff: poweredOff && gone,
  };
}

/** A load from a device that the host emulates: what the guest finds in x0. */
function readDevice({ kernel, machine, cpu }: Scene, vcpu: HostVcpu): bigint | undefined {
  if (kernel.run(cpu, vcpu) !== "guest") return undefined;
  if (guestRead(machine, cpu, DEVICE_IPA) !== "exit") return undefined;
  kernel.handleExit(vcpu, kernel.exitCode(cpu), DEVICE_VALUE);
  if (kernel.run(cpu, vcpu) !== "guest") return undefined;
  const value = cpu.x[0];
  interrupt(machine, cpu);
  return value;
}

/** PSCI SYSTEM_OFF of a guest, which the host sees. */
function powerOff({ kernel, machine, cpu }: Scene, vcpu: HostVcpu): boolean {
  if (kernel.run(cpu, vcpu) !== "guest") return false;
  guestHypercall(machine, cpu, BigInt(Psci.SYSTEM_OFF));
  return kernel.exitCode(cpu) === Exit.TRAP && kernel.guestRegister(vcpu, 0) === BigInt(Psci.SYSTEM_OFF);
}

/** Whether the VM finds all its secret where it put it. */
function holdsSecret(scene: Scene, vm: HostVm): boolean {
  const [vcpu] = vm.vcpus as [HostVcpu];
  const base = vm.frames.first * PAGE_SIZE;
  return SECRET_FRAMES.every(
    (frame) => scene.read(vcpu, base + frame * PAGE_SIZE) === SECRET + BigInt(frame),
  );
}

/** The pages that hold the VM's secret. */
function secretPages(vm: HostVm): number[] {
  return SECRET_FRAMES.map((frame) => vm.backing.get(vm.frames.first + frame) as number);
}

type Ways = readonly (readonly [by: "kernel" | "user" | "kernel on user memory", what: string])[];
const ways: Ways = [
  ["kernel", "the kernel's own map"],
  ["user", "a mapping in user space"],
  ["kernel on user memory", "a system call on user memory"],
];

/** Everything that the host tries against the core and against its private VM. */
function attack(scene: Scene, vm: HostVm, tell: (report: StoryReport) => void): void {
  const report = (target: AttackReport["target"], name: string, hit: boolean, detail: string) =>
    tell({ event: "attack", target, name, result: hit ? "succeeded" : "refused", detail });
  attackCore(scene, (name, hit, detail) => report("core", name, hit, detail));
  attackVm(scene, vm, (name, hit, detail) => report("vm", name, hit, detail));
  const goesOn = holdsSecret(scene, vm);
  tell({ event: "check", name: "the attacked VM goes on with all its memory", ok: goesOn, detail: "" });
  takeAway(scene, vm, (name, hit, detail) => report("vm", name, hit, detail));
}

type Tell = (name: string, hit: boolean, detail: string) => void;

/** Accesses to pages by each of the host's ways. `isHit` says by the value obtained, if any, whether the page was reached. */
function access(
  { kernel, machine }: Scene,
  pages: readonly number[],
  kind: "read" | "write",
  by: Ways[number][0],
  isHit: (pa: number, value: bigint | undefined) => boolean,
): [hit: boolean, detail: string] {
  let [hit, detail] = [false, ""];
  for (const pa of pages) {
    const cpu = machine.cpu(pages.indexOf(pa) % machine.cpus.length);
    if (by !== "kernel") kernel.mapUser(USER_VA, pa);
    const va = by === "kernel" ? kernel.linear(pa) : USER_VA;
    for (const cacheable of [true, false]) {
      const outcome = kernel.access(cpu, { kind, va, by, cacheable, value: 0xbadn });
      if ("fault" in outcome) detail = `exception ${hex(outcome.fault)} at ${hex(outcome.far)}`;
      else if ("emulated" in outcome) detail = "reads zero, writes are lost";
      else detail = `the access is done: ${hex(outcome.value)}`;
      hit ||= isHit(pa, "value" in outcome ? outcome.value : undefined);
    }
  }
  return [hit, detail];
}

function attackCore(scene: Scene, tell: Tell): void {
  const { kernel, machine, cpu } = scene;
  const { bootInfo } = machine.core;
  const names = ["coreBase", "rootsBase", "s2pageBase", "poolBase"];
  const pages = [...names.map((name) => bootInfo.number(name)), machine.coreEnd - PAGE_SIZE];
  for (const kind of ["read", "write"] as const) {
    for (const [by, what] of ways)
      tell(
        `${kind} the core by ${what}`,
        ...access(scene, pages, kind, by, (_pa, value) => value !== undefined),
      );
  }
  const unchanged = snapshot(machine, pages);
  const tryCall = (name: string, call: string, ...args: readonly (bigint | number)[]) => {
    const answer = kernel.call(cpu, call, ...args);
    tell(name, !unchanged() || (answer?.result ?? 1n) > 0n, `the call returns ${answer?.result}`);
  };
  const inside = kernel.linear(machine.coreBase);
  tryCall("name the core's memory as a struct kvm", "INIT_VM", inside, inside, inside);
  const vm = kernel.vms[0] as HostVm;
  tryCall("name the core's memory as a struct kvm_vcpu", "INIT_VCPU", vm.handle, inside, inside);
  tryCall("let the core save a GIC into its own memory", "VGIC_SAVE_VMCR_APRS", inside + 2048n);
  const firmware = (name: string, id: number, ...args: readonly bigint[]) => {
    // The machine ends the story with a violation if a CPU ever starts at an entry point of the host's at EL2.
    machine.smcByHost(machine.cpu(1), id, ...args);
    const status = BigInt.asIntN(64, machine.cpu(1).x[0] as bigint);
    tell(name, status === 0n, `firmware is not asked, or refuses: ${status}`);
  };
  const entry = kernel.linear(machine.memory.base);
  firmware("suspend a CPU to code of the host at EL2", smc64(Psci.CPU_DEFAULT_SUSPEND), entry, 0n);
  firmware("start a CPU in code of the host at EL2", Psci.CPU_ON, machine.cpu(0).affinity, entry, 0n);
  const thief = kernel.createVm(cpu);
  const vcpu = kernel.createVcpu(cpu, thief);
  tell("give the core's memory to a VM", ...reach(scene, thief, vcpu, pages, 3));
  tell("give the core's memory to a VM in a large block", ...reach(scene, thief, vcpu, pages, 2));
  kernel.destroyVm(cpu, thief);
}

/** Proposes each page to a VM. Hit when its guest gets to see one. */
function reach(
  { kernel, machine, cpu }: Scene,
  thief: HostVm,
  vcpu: HostVcpu,
  pages: readonly number[],
  level: 2 | 3,
): [hit: boolean, detail: string] {
  let [hit, detail] = [false, ""];
  for (const [n, pa] of pages.entries()) {
    const region = 0x20_0000;
    const start = thief.frames.first * PAGE_SIZE + (n + (level === 2 ? 100 : 50)) * region;
    const inside = level === 2 ? pa % region : 0;
    kernel.propose(thief, start, pa - inside, { level });
    if (kernel.run(cpu, vcpu) !== "guest") {
      detail = "the VM does not run";
      continue;
    }
    const seen = guestRead(machine, cpu, start + inside);
    hit ||= typeof seen === "object";
    if (typeof seen === "object") interrupt(machine, cpu);
    else detail = `its run ends with exit code ${kernel.exitCode(cpu)}`;
    kernel.unpropose(thief, start);
    kernel.skip(vcpu);
  }
  return [hit, detail];
}

/** Whether the first words of pages are still what they were. */
function snapshot(machine: Machine, pages: readonly number[]): () => boolean {
  const words = pages.map((pa) => machine.caches.read(pa, 8));
  return () => pages.every((pa, n) => machine.caches.read(pa, 8) === words[n]);
}

function attackVm(scene: Scene, vm: HostVm, tell: Tell): void {
  const { kernel, machine, cpu } = scene;
  const pages = secretPages(vm);
  const isSecret = (_pa: number, value: bigint | undefined) => value !== undefined && value >= SECRET;
  for (const [by, what] of ways)
    tell(`read the VM by ${what}`, ...access(scene, pages, "read", by, isSecret));
  for (const [by, what] of ways) {
    const [, detail] = access(scene, pages, "write", by, () => false);
    tell(`write the VM by ${what}`, !holdsSecret(scene, vm), detail);
  }
  const [page] = pages as [number];
  const unchanged = snapshot(machine, pages);
  const kvm = kernel.call(cpu, "INIT_VM", kernel.linear(page), kernel.linear(page), kernel.linear(page));
  tell(
    "name the VM's page as a struct kvm",
    (kvm?.result ?? 1n) > 0n || !unchanged(),
    `the call returns ${kvm?.result}`,
  );
  kernel.call(
    cpu,
    "VGIC_SAVE_VMCR_APRS",
    kernel.linear(page) + BigInt(kernel.structures.profile.vgicV3 as number),
  );
  tell("let the core save a GIC into the VM's page", !unchanged(), "the page is as it was");
  const thief = kernel.createVm(cpu);
  const vcpu = kernel.createVcpu(cpu, thief);
  tell("map the VM's pages into another VM", ...reach(scene, thief, vcpu, pages, 3));
  tell(
    "map the VM's pages into another VM in a large block",
    ...reach(scene, thief, vcpu, pages.slice(3), 2),
  );
  kernel.destroyVm(cpu, thief);
  const again = kernel.createVm(cpu, { ipaBits: 32 });
  kernel.call(cpu, "TLB_FLUSH_VMID", kernel.mmu(vm));
  kernel.destroyVm(cpu, again);
  tell("flush the VM's translations and look", ...access(scene, pages, "read", "kernel", isSecret));
}

/** The host takes a page out of its tables for the VM: it gets the page, and nothing of what was on it. */
function takeAway(scene: Scene, vm: HostVm, tell: Tell): void {
  const { kernel, cpu } = scene;
  const frame = vm.frames.first + (SECRET_FRAMES[0] as number);
  const pa = kernel.reclaim(cpu, vm, frame) as number;
  const isSecret = (_pa: number, value: bigint | undefined) => value !== undefined && value >= SECRET;
  tell("take a page back from the VM and read it", ...access(scene, [pa], "read", "kernel", isSecret));
}

/** After its end, every page of the private VM is the host's again, and zero in caches and memory. */
function afterwards({ kernel, machine, cpu }: Scene): CheckReport {
  const pages = ended.get(machine) ?? [];
  const wrong = pages.filter((pa) =>
    [true, false].some((cacheable) => {
      const seen = kernel.read(cpu, pa, cacheable);
      return !("value" in seen) || seen.value !== 0n;
    }),
  );
  const name = "every page of a VM that ended reads zero";
  return {
    event: "check",
    name,
    ok: wrong.length === 0,
    detail: `${pages.length} pages, ${wrong.length} not`,
  };
}
