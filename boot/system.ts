import { createWriteStream } from "node:fs";
import { stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { explainFileError, guardFiles, withRunFolder } from "./cache.ts";
import { assembleCore, type Core, type VmMode } from "./core.ts";
import type { CpioEntry } from "./cpio.ts";
import { BootError, systemCode } from "./error.ts";
import {
  cpuAffinities,
  formatFdt,
  memoryRegions,
  parseFdt,
  setChosen,
  setMemory,
  withoutRegion,
} from "./fdt.ts";
import { type KernelImage, kernelRelease, patchBootMode, readImage } from "./image.ts";
import { hostInitramfs } from "./initramfs.ts";
import type { Job } from "./job.ts";
import { fetchKernel } from "./kernel.ts";
import { checkMemory, coreEntry, deviceTreeLimit, planHost } from "./layout.ts";
import { readProfile } from "./profile.ts";
import {
  dumpDeviceTree,
  type EndReason,
  type Machine,
  type MachineEnd,
  type MachineShape,
  optionValue,
  runMachine,
  SerialLines,
} from "./qemu.ts";
import { parseStoryLine, type StoryEvent } from "./story.ts";
import type { Tools } from "./tools.ts";
import { type CoreEvent, formatPanic, readEvents, readPanic } from "./trace.ts";

/** A host to boot. */
export interface HostConfig extends MachineShape {
  /** `on`: the core at EL2 and the host at EL1 on it. `off`: the same host with its own KVM at EL2. */
  readonly core: "on" | "off";
  readonly vms: VmMode;
  /** Whether the core records every entry and exit of guests, not only rare events. */
  readonly traceExits?: boolean;
  /** A kernel Image; Debian's where none is named. */
  readonly kernel?: string;
  /** An initramfs; the one of initramfs.ts where none is named. */
  readonly initrd?: string;
  /** Files that are added to the built initramfs. */
  readonly extraFiles?: readonly CpioEntry[];
  /** What follows `console=ttyAMA0` on the kernel command line. */
  readonly append?: string;
  /** Seconds. */
  readonly timeout?: number;
  /** A file that gets the serial console's bytes. */
  readonly log?: string;
  readonly onSerial?: (bytes: Buffer) => void;
  /** Hears what the built initramfs reports. */
  readonly onEvent?: (event: StoryEvent) => void;
  /** Called when everything is ready and the machine has started. */
  readonly onStart?: (host: RunningHost) => void;
  /** Called when the machine has stopped and its memory can be read. */
  readonly beforeEnd?: (host: RunningHost, reason: EndReason) => Promise<void>;
}

/** A host whose machine can be looked into. */
export interface RunningHost {
  readonly machine: Machine;
  /** The core below it, if any. */
  readonly core: Core | undefined;
}

/** How a host ended. */
export interface HostEnd extends MachineEnd {
  /** Whether the system ended by its own decision: it powered off or rebooted. */
  readonly ok: boolean;
  /** The host kernel's release, where the kernel says it. */
  readonly release: string | undefined;
  readonly core: Core | undefined;
  /** The core's last events, oldest first; none without a core. */
  readonly events: readonly CoreEvent[];
  /** What the core says of its own end, over several lines, when it ended itself. */
  readonly corePanic: string | undefined;
}

/**
 * Boots a host and stays with it until it ends.
 * @throws BootError when something is missing or unsuitable; nothing runs then
 */
export async function bootHost(job: Job, tools: Tools, config: HostConfig): Promise<HostEnd> {
  const qemu = await tools.qemu();
  const kernel = await readImage(config.kernel ?? (await fetchKernel(job)).image);
  const initrd = config.initrd ?? (await hostInitramfs(job, tools, config.extraFiles)).path;
  const initrdSize = await initrdSizeOf(initrd);
  checkMemory({ ram: config.memory, image: kernel.imageSize, initrd: initrdSize });
  const bootArguments = hostArguments(config);
  return withRunFolder(job.cache, async (folder) => {
    const prepare = config.core === "on" ? prepareWithCore : prepareStock;
    job.onProgress({ stage: "preparing the host" });
    const { load, core } = await prepare(job, tools, config, {
      kernel,
      initrd,
      initrdSize,
      bootArguments,
      folder,
    });
    return withLog(job, config.log, async (loggingJob, log) => {
      const lines = new SerialLines((line) => {
        const event = parseStoryLine(line);
        if (event) config.onEvent?.(event);
      });
      job.onProgress({ stage: "the host boots" });
      let remains: CoreRemains = { events: [], panic: undefined };
      const end = await runMachine(loggingJob, {
        qemu,
        shape: config,
        load,
        onSerial: (bytes) => {
          log(bytes);
          config.onSerial?.(bytes);
          lines.push(bytes);
        },
        ...(config.timeout === undefined ? {} : { timeout: config.timeout }),
        onStart: (machine) => config.onStart?.({ machine, core }),
        beforeEnd: async (machine, reason) => {
          if (core) remains = await examineCore(machine, core, tools);
          await config.beforeEnd?.({ machine, core }, reason);
        },
      });
      const { events, panic: corePanic } = remains;
      const release = kernelRelease(kernel);
      if (corePanic !== undefined) {
        const detail = corePanic.split("\n")[0] as string;
        return { ...end, reason: "panic", detail, ok: false, release, core, events, corePanic };
      }
      const ok = end.reason === "poweroff" || end.reason === "reboot";
      return { ...end, ok, release, core, events, corePanic };
    });
  });
}

/** What is found in the core's memory when the machine has stopped. */
interface CoreRemains {
  readonly events: readonly CoreEvent[];
  readonly panic: string | undefined;
}

async function examineCore(machine: Machine, core: Core, tools: Tools): Promise<CoreRemains> {
  const events = await readEvents(machine, core);
  const panic = await readPanic(machine, core);
  if (!panic) return { events, panic };
  const { addr2line } = await tools.toolchain();
  return { events, panic: await formatPanic(core, panic, events, addr2line) };
}

/** The host's kernel command line. */
export function hostArguments(config: Pick<HostConfig, "core" | "append">): string {
  const words = ["console=ttyAMA0"];
  const append = config.append?.trim() ?? "";
  // In protected mode KVM announces the life and death of every VM to EL2.
  if (config.core === "on" && !/(^|\s)kvm-arm\.mode=/.test(append)) words.push("kvm-arm.mode=protected");
  if (append !== "") words.push(append);
  return words.join(" ");
}

/** What both ways to start a host need. */
interface Parts {
  readonly kernel: KernelImage;
  readonly initrd: string;
  readonly initrdSize: bigint;
  readonly bootArguments: string;
  readonly folder: string;
}

interface Prepared {
  readonly load: readonly string[];
  readonly core: Core | undefined;
}

/** The stock host: QEMU is its boot loader. */
async function prepareStock(_job: Job, _tools: Tools, _config: HostConfig, parts: Parts): Promise<Prepared> {
  const image = join(parts.folder, "Image");
  await guardFiles(image, () => writeFile(image, parts.kernel.bytes));
  const load = ["-kernel", image, "-initrd", parts.initrd, "-append", parts.bootArguments];
  return { load, core: undefined };
}

/** The host on the core: the core is what QEMU starts, everything else lies in memory where layout.ts puts it. */
async function prepareWithCore(job: Job, tools: Tools, config: HostConfig, parts: Parts): Promise<Prepared> {
  const { kernel, folder } = parts;
  const patched = patchBootMode(kernel);
  const profile = readProfile(kernel);
  const layout = planHost({
    ram: config.memory,
    image: kernel.imageSize,
    textOffset: kernel.textOffset,
    initrd: parts.initrdSize,
  });
  const qemu = await tools.qemu();
  const tree = parseFdt(await dumpDeviceTree(job, qemu, config), "QEMU's device tree");
  setMemory(tree, withoutRegion(memoryRegions(tree), layout.core));
  setChosen(tree, {
    bootArguments: parts.bootArguments,
    ...(layout.initrd ? { initrd: layout.initrd } : {}),
  });
  const deviceTree = formatFdt(tree);
  if (BigInt(deviceTree.length) > deviceTreeLimit) {
    throw new BootError(
      `the device tree has ${deviceTree.length} bytes, more than 2 MiB`,
      "give fewer devices",
    );
  }
  // The compiler behind it takes seconds to load, which a host without the core need not wait for.
  const core = await assembleCore(job, tools, {
    ram: layout.ram,
    cpus: cpuAffinities(tree),
    coreRegion: layout.core,
    hostEntry: layout.image.base,
    hostDtb: layout.deviceTree.base,
    profile,
    vms: config.vms,
    traceExits: config.traceExits ?? false,
  });
  if (coreEntry + BigInt(core.image.length) > layout.core.base + layout.core.size) {
    throw new BootError(
      `the core's image has ${core.image.length} bytes and does not fit its region`,
      "give more --memory",
    );
  }
  const write = async (name: string, bytes: Uint8Array) => {
    const path = join(folder, name);
    await guardFiles(path, () => writeFile(path, bytes));
    return path;
  };
  const loader = (path: string, address: bigint) => [
    "-device",
    `loader,file=${optionValue(path)},addr=0x${address.toString(16)},force-raw=on`,
  ];
  const load = [
    ...["-kernel", await write("core.bin", core.image)],
    ...loader(await write("Image", patched.bytes), layout.image.base),
    ...(layout.initrd ? loader(parts.initrd, layout.initrd.base) : []),
    ...loader(await write("host.dtb", deviceTree), layout.deviceTree.base),
  ];
  return { load, core };
}

async function initrdSizeOf(path: string): Promise<bigint> {
  try {
    const { size } = await stat(path);
    return BigInt(size);
  } catch (error) {
    throw new BootError(
      `cannot read the initrd ${path} (${systemCode(error)})`,
      "name a file with --initrd",
      {
        cause: error,
      },
    );
  }
}

/**
 * Runs work that logs bytes to a file, and waits until they are written. When the file cannot be written any more, the work is
 * aborted with the reason.
 */
async function withLog<T>(
  job: Job,
  path: string | undefined,
  work: (job: Job, log: (bytes: Buffer) => void) => Promise<T>,
): Promise<T> {
  if (path === undefined) return work(job, () => {});
  const failure = new AbortController();
  const file = createWriteStream(path);
  const closed = new Promise<void>((resolve) => file.once("close", resolve));
  file.once("error", (error) => failure.abort(explainLogError(path, error)));
  const signal = AbortSignal.any([job.signal, failure.signal]);
  try {
    await Promise.race([new Promise<void>((resolve) => file.once("open", () => resolve())), closed]);
    return await work({ ...job, signal }, (bytes) => file.write(bytes));
  } finally {
    file.end();
    await closed;
    failure.signal.throwIfAborted();
  }
}

function explainLogError(path: string, error: unknown): unknown {
  const explained = explainFileError(path, error);
  if (explained instanceof BootError && systemCode(error) === "ENOSPC") return explained;
  return new BootError(
    `cannot write the log ${path} (${systemCode(error)})`,
    "name another file with --log",
    {
      cause: error,
    },
  );
}
