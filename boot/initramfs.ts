import { createHash } from "node:crypto";
import { readdir, readFile, rm, stat, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { cachePath, exists, writeAtomically } from "./cache.ts";
import { runCommand } from "./command.ts";
import { type CpioEntry, formatCpio } from "./cpio.ts";
import { parseElf } from "./elf.ts";
import { BootError } from "./error.ts";
import type { Job } from "./job.ts";
import { fetchKernel, type KernelPackage } from "./kernel.ts";
import { loadModules, moduleFiles } from "./modules.ts";
import { fetchPackages, type PackageSet, packageSetKey } from "./packages.ts";
import type { Tools } from "./tools.ts";

const scripts = join(dirname(fileURLToPath(import.meta.url)), "scripts");

const busyboxSet: PackageSet = {
  purpose: "busybox for the initramfs",
  names: ["busybox-static"],
  architecture: "arm64",
  dependencies: false,
};

/** The QEMU that the host starts its VMs with: the same stock package, for arm64. */
const hostQemuSet: PackageSet = {
  purpose: "QEMU for the host",
  names: ["qemu-system-arm", "ipxe-qemu"],
  architecture: "arm64",
  dependencies: true,
};

/** Modules for what a QEMU machine may have; virtio-pci and virtio-console are built into Debian's kernel. */
const virtualMachineModules = ["virtio_blk", "virtio_net", "virtio_rng"];
const hostModules = [...virtualMachineModules, "tun"];

/** The steps that the host's /init can run: scripts/step-NAME.sh. */
const hostSteps = ["info", "guest", "guests", "hotplug", "cycles"];

/** QEMU's data files that a virt machine without firmware reads: the boot ROM of its network card. */
const qemuData = ["usr/lib/ipxe/qemu/efi-virtio.rom"];

/** How many built archives of a kind are kept; a build belongs to its scripts and extra files, which change while one works. */
const keptBuilds = 4;

/** The console and the null device, without which /init has no standard streams before it mounts /dev. */
const devices: readonly CpioEntry[] = [
  { path: "dev/console", kind: "device", major: 5, minor: 1 },
  { path: "dev/null", kind: "device", major: 1, minor: 3 },
];

/** Where the kernel mounts and programs expect folders. */
const folders: readonly CpioEntry[] = ["proc", "sys", "tmp", "root"].map((path) => ({
  path,
  kind: "folder",
}));

/** An archive in the cache. */
export interface Initramfs {
  readonly path: string;
  readonly size: number;
}

/**
 * The initramfs of the stock guest: busybox, virtio drivers, and an /init that reports, does the tasks on its kernel command line
 * (scripts/guest-init.sh) and powers off.
 */
export async function guestInitramfs(job: Job, tools: Tools): Promise<Initramfs> {
  const kernel = await fetchKernel(job);
  const init = await script("guest-init.sh");
  return build(job, "guest", [kernel.name, packageSetKey(busyboxSet), init], async () => [
    ...(await base(job, init)),
    ...(await kernelModules(kernel, tools, virtualMachineModules)),
  ]);
}

/**
 * The initramfs of the host: busybox, the stock arm64 QEMU with the libraries it needs, the guest's kernel and initramfs, and an
 * /init that runs steps (scripts/host-init.sh).
 * @param extra further files: programs go to `bin/NAME`, steps to `corevisor/steps/NAME`, both executable. A file at the path of
 * one that is there already replaces it.
 */
export async function hostInitramfs(
  job: Job,
  tools: Tools,
  extra: readonly CpioEntry[] = [],
): Promise<Initramfs> {
  const kernel = await fetchKernel(job);
  const guest = await guestInitramfs(job, tools);
  const init = await script("host-init.sh");
  const steps = await Promise.all(
    hostSteps.map(
      async (name): Promise<CpioEntry> => ({
        path: `corevisor/steps/${name}`,
        kind: "file",
        data: await script(`step-${name}.sh`),
        executable: true,
      }),
    ),
  );
  const parts = [kernel.name, packageSetKey(busyboxSet), packageSetKey(hostQemuSet), guest.path, init];
  return build(job, "host", [...parts, ...[...steps, ...extra].flatMap(identity)], async () => {
    const replaced = new Set(extra.map(({ path }) => path));
    const stock: CpioEntry[] = [
      ...(await base(job, init)),
      ...(await kernelModules(kernel, tools, hostModules)),
      ...(await hostQemu(job)),
      ...steps,
      { path: "corevisor/guest/Image", kind: "file", data: await readFile(kernel.image) },
      { path: "corevisor/guest/initrd.cpio", kind: "file", data: await readFile(guest.path) },
    ];
    return [...stock.filter(({ path }) => !replaced.has(path)), ...extra];
  });
}

/**
 * A program and the libraries it needs, as entries: the closure of DT_NEEDED below a root.
 * @param program path inside the root
 * @throws BootError naming the library that is missing
 */
export async function programWithLibraries(root: string, program: string): Promise<CpioEntry[]> {
  const searched = ["usr/lib/aarch64-linux-gnu", "lib/aarch64-linux-gnu"];
  const bytes = await readFile(join(root, program));
  const elf = parseElf(bytes, program);
  const entries: CpioEntry[] = [{ path: program, kind: "file", data: bytes, executable: true }];
  const libraries = new Map<string, Uint8Array>();
  const open = elf.needed.map((name) => ({ name, neededBy: program }));
  for (let next = open.shift(); next; next = open.shift()) {
    const { name, neededBy } = next;
    if (libraries.has(name)) continue;
    const library = await readFirst(searched.map((folder) => join(root, folder, name)));
    if (!library) {
      throw new BootError(
        `library ${name}, needed by ${neededBy}, is in no package of ${root}`,
        "remove that folder and run again",
      );
    }
    libraries.set(name, library);
    open.push(...parseElf(library, name).needed.map((needed) => ({ name: needed, neededBy: name })));
  }
  for (const [name, data] of libraries) {
    entries.push({ path: `lib/aarch64-linux-gnu/${name}`, kind: "file", data, executable: true });
  }
  if (elf.interpreter !== undefined) {
    const path = elf.interpreter.replace(/^\//, "");
    const name = path.split("/").at(-1) ?? path;
    const loader = libraries.get(name) ?? (await readFile(join(root, path)));
    entries.push({ path, kind: "file", data: loader, executable: true });
  }
  return entries;
}

/** What both kinds of initramfs begin with. */
async function base(job: Job, init: Uint8Array): Promise<CpioEntry[]> {
  const { root } = await fetchPackages(job, busyboxSet);
  const busybox = await readFirst([join(root, "bin/busybox"), join(root, "usr/bin/busybox")]);
  if (!busybox) throw new BootError(`package busybox-static has no busybox`, `remove ${root} and run again`);
  return [
    ...folders,
    ...devices,
    { path: "bin/busybox", kind: "file", data: busybox, executable: true },
    { path: "init", kind: "file", data: init, executable: true },
  ];
}

async function kernelModules(
  kernel: KernelPackage,
  tools: Tools,
  names: readonly string[],
): Promise<CpioEntry[]> {
  const unxz = async (path: string) => {
    const { command, args, env } = await tools.xz();
    const done = await runCommand(command, [...args, "--decompress", "--stdout", path], {
      env,
      binary: true,
    });
    if (done.status !== 0)
      throw new BootError(`cannot unpack ${path}: ${done.stderr}`, "remove it and run again");
    return Buffer.from(done.stdout, "latin1");
  };
  return moduleFiles(kernel.release, await loadModules(kernel.modules, names, unxz));
}

async function hostQemu(job: Job): Promise<CpioEntry[]> {
  const { root } = await fetchPackages(job, hostQemuSet);
  const data = await Promise.all(
    qemuData.map(
      async (path): Promise<CpioEntry> => ({ path, kind: "file", data: await readFile(join(root, path)) }),
    ),
  );
  return [...(await programWithLibraries(root, "usr/bin/qemu-system-aarch64")), ...data];
}

/**
 * An archive in the cache, built unless it is there.
 * @param identity everything that its content follows from
 */
async function build(
  job: Job,
  kind: string,
  identity: readonly (string | Uint8Array)[],
  contents: () => Promise<CpioEntry[]>,
): Promise<Initramfs> {
  const hash = createHash("sha256");
  for (const part of identity) hash.update(createHash("sha256").update(part).digest());
  const path = cachePath(job.cache, "built", `${kind}-${hash.digest("hex").slice(0, 16)}.cpio`);
  if (await exists(path)) {
    const now = new Date();
    await utimes(path, now, now);
  } else {
    job.onProgress({ stage: `building the ${kind}'s initramfs` });
    // Uncompressed: under emulation the kernel copies faster than it inflates.
    await writeAtomically(path, formatCpio(await contents()));
    await removeOldBuilds(job, kind);
  }
  return { path, size: (await stat(path)).size };
}

async function removeOldBuilds(job: Job, kind: string): Promise<void> {
  const folder = cachePath(job.cache, "built");
  const names = (await readdir(folder)).filter(
    (name) => name.startsWith(`${kind}-`) && name.endsWith(".cpio"),
  );
  const builds = await Promise.all(
    names.map(async (name) => ({ name, used: (await stat(join(folder, name))).mtimeMs })),
  );
  builds.sort((one, other) => other.used - one.used);
  for (const { name } of builds.slice(keptBuilds)) await rm(join(folder, name), { force: true });
}

/** What tells an entry from another: its path and content. */
function identity(entry: CpioEntry): (string | Uint8Array)[] {
  const { data, ...rest } = { data: new Uint8Array(), ...entry };
  return [JSON.stringify(rest), data];
}

async function script(name: string): Promise<Uint8Array> {
  return readFile(join(scripts, name));
}

async function readFirst(paths: readonly string[]): Promise<Uint8Array | undefined> {
  for (const path of paths) if (await exists(path)) return readFile(path);
  return undefined;
}
