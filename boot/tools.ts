import { rm } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { cachePath, exists } from "./cache.ts";
import { type Finished, findOnPath, runCommand } from "./command.ts";
import { BootError, oneLine } from "./error.ts";
import type { Job } from "./job.ts";
import { arePackagesCached, fetchPackages, type PackageSet, packageSetKey } from "./packages.ts";

/** A program, ready to run: `spawn(command, [...args, ...yours], { env: { ...process.env, ...env } })`. */
export interface Tool {
  readonly command: string;
  /** Arguments that must come first, such as where QEMU's data lies. */
  readonly args: readonly string[];
  /** Added to the environment. */
  readonly env: Readonly<Record<string, string>>;
  /** The version it reports, `7.2.22`. */
  readonly version: string;
  readonly source: ToolSource;
}

/** `path`: it was on PATH. `packages`: it was fetched into the cache. */
export type ToolSource = "path" | "packages";

/** The cross compiler and its companions, all from one place. */
export interface Toolchain {
  readonly gcc: Tool;
  readonly ld: Tool;
  readonly objcopy: Tool;
  readonly objdump: Tool;
  readonly nm: Tool;
  readonly addr2line: Tool;
}

/** The programs that boot/ uses. Each is looked for, and fetched where it is missing, when it is first asked for. */
export interface Tools {
  /** `qemu-system-aarch64`. */
  qemu(): Promise<Tool>;
  /** gcc and binutils that build bare-metal and static Linux code for arm64. */
  toolchain(): Promise<Toolchain>;
  /** `xz`, which unpacks kernel modules. */
  xz(): Promise<Tool>;
}

/** One group of programs that comes from one place: all from PATH, or all from a package set. */
interface Kit<Name extends string> {
  readonly purpose: string;
  /** The programs' names as commands. */
  readonly commands: Readonly<Record<Name, string>>;
  /** The oldest version of each that will do, `[7, 2]`. */
  readonly oldest: Readonly<Record<Name, readonly number[]>>;
  readonly packages: PackageSet;
  /** Arguments that make a program find its data below an unpacked root. */
  readonly args?: (root: string) => readonly string[];
}

const nativeIsArm64 = process.arch === "arm64";
const cross = nativeIsArm64 ? "" : "aarch64-linux-gnu-";

export const qemuKit: Kit<"qemu"> = {
  purpose: "QEMU",
  commands: { qemu: "qemu-system-aarch64" },
  oldest: { qemu: [7, 2] },
  packages: {
    purpose: "QEMU",
    names: ["qemu-system-arm", "ipxe-qemu"],
    architecture: "native",
    dependencies: true,
  },
  args: (root) => ["-L", join(root, "usr/share/qemu"), "-L", join(root, "usr/lib/ipxe/qemu")],
};

export const toolchainKit: Kit<keyof Toolchain> = {
  purpose: "the arm64 compiler",
  commands: {
    gcc: `${cross}gcc`,
    ld: `${cross}ld`,
    objcopy: `${cross}objcopy`,
    objdump: `${cross}objdump`,
    nm: `${cross}nm`,
    addr2line: `${cross}addr2line`,
  },
  oldest: { gcc: [12], ld: [2, 38], objcopy: [2, 38], objdump: [2, 38], nm: [2, 38], addr2line: [2, 38] },
  packages: {
    purpose: "the arm64 compiler",
    names: nativeIsArm64
      ? ["gcc", "binutils", "libc6-dev"]
      : ["gcc-aarch64-linux-gnu", "binutils-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
    architecture: "native",
    dependencies: true,
  },
};

export const xzKit: Kit<"xz"> = {
  purpose: "xz",
  commands: { xz: "xz" },
  oldest: { xz: [5] },
  packages: { purpose: "xz", names: ["xz-utils"], architecture: "native", dependencies: true },
};

/** The tools of this machine, PATH first. */
export function openTools(job: Job): Tools {
  const once = <T>(find: () => Promise<T>) => {
    let found: Promise<T> | undefined;
    return () => {
      found ??= find();
      return found;
    };
  };
  return {
    qemu: once(async () => (await findKit(job, qemuKit)).qemu),
    toolchain: once(() => findKit(job, toolchainKit)),
    xz: once(async () => (await findKit(job, xzKit)).xz),
  };
}

/** How a kit would be had, without fetching anything. */
export type KitState<Name extends string> =
  | { readonly state: "path"; readonly tools: Record<Name, Tool> }
  | { readonly state: "cached" }
  /** It would be downloaded; `problem` says why what is on PATH will not do. */
  | { readonly state: "absent"; readonly problem: string };

/** Looks for a kit on PATH and in the cache. */
export async function inspectKit<Name extends string>(
  job: Pick<Job, "cache">,
  kit: Kit<Name>,
): Promise<KitState<Name>> {
  const onPath = await fromPath(kit);
  if ("tools" in onPath) return { state: "path", tools: onPath.tools };
  if (await arePackagesCached(job, kit.packages)) return { state: "cached" };
  return { state: "absent", problem: onPath.problem };
}

/**
 * The programs of a kit: from PATH when all are there and new enough, else from packages.
 * @throws BootError when neither has them, naming what PATH lacks and why the packages cannot be had
 */
async function findKit<Name extends string>(job: Job, kit: Kit<Name>): Promise<Record<Name, Tool>> {
  const onPath = await fromPath(kit);
  if ("tools" in onPath) return onPath.tools;
  try {
    return await fromPackages(job, kit);
  } catch (error) {
    if (!(error instanceof BootError)) throw error;
    throw new BootError(onPath.problem, error.message, { cause: error });
  }
}

async function fromPath<Name extends string>(
  kit: Kit<Name>,
): Promise<{ tools: Record<Name, Tool> } | { problem: string }> {
  const tools: Partial<Record<Name, Tool>> = {};
  for (const [name, command] of Object.entries<string>(kit.commands) as [Name, string][]) {
    const path = await findOnPath(command);
    if (path === undefined) return { problem: `${command} is not on PATH` };
    const tool = await probe({ command: path, args: [], env: {}, source: "path" });
    if (typeof tool === "string") return { problem: `${path} does not run: ${tool}` };
    if (isOlder(tool.version, kit.oldest[name])) {
      return { problem: `${path} is version ${tool.version}, older than ${kit.oldest[name].join(".")}` };
    }
    tools[name] = tool;
  }
  return { tools: tools as Record<Name, Tool> };
}

async function fromPackages<Name extends string>(job: Job, kit: Kit<Name>): Promise<Record<Name, Tool>> {
  const folder = cachePath(job.cache, "packages", packageSetKey(kit.packages));
  const wasCached = await exists(folder);
  const found = await toolsBelow((await fetchPackages(job, kit.packages)).root, kit);
  if (typeof found !== "string") return found;
  if (!wasCached)
    throw new BootError(`${kit.purpose} from packages does not run: ${found}`, `install it yourself`);
  // The set was chosen beside the libraries installed back then; the system has changed since.
  await rm(folder, { recursive: true, force: true });
  const again = await toolsBelow((await fetchPackages(job, kit.packages)).root, kit);
  if (typeof again !== "string") return again;
  throw new BootError(`${kit.purpose} from packages does not run: ${again}`, `install it yourself`);
}

/** The kit's programs in an unpacked root, or why they do not run. */
async function toolsBelow<Name extends string>(
  root: string,
  kit: Kit<Name>,
): Promise<Record<Name, Tool> | string> {
  const triplet = nativeIsArm64 ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
  const libraries = [join(root, "usr/lib", triplet), join(root, "lib", triplet), join(root, "usr/lib")];
  const env = {
    LD_LIBRARY_PATH: prepend(libraries, process.env.LD_LIBRARY_PATH),
    PATH: prepend([join(root, "usr/bin")], process.env.PATH),
    QEMU_MODULE_DIR: join(root, "usr/lib", triplet, "qemu"),
  };
  const tools: Partial<Record<Name, Tool>> = {};
  for (const [name, command] of Object.entries<string>(kit.commands) as [Name, string][]) {
    const path = join(root, "usr/bin", command);
    const tool = await probe({ command: path, args: kit.args?.(root) ?? [], env, source: "packages" });
    if (typeof tool === "string") return `${command}: ${tool}`;
    if (isOlder(tool.version, kit.oldest[name])) {
      return `${command} is version ${tool.version}, older than ${kit.oldest[name].join(".")}`;
    }
    tools[name] = tool;
  }
  return tools as Record<Name, Tool>;
}

/** The tool with the version it reports, or the reason why it does not run. */
async function probe(tool: Omit<Tool, "version">): Promise<Tool | string> {
  let done: Finished;
  try {
    done = await runCommand(tool.command, ["--version"], { env: tool.env, cwd: dirname(tool.command) });
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  if (done.status !== 0) return oneLine(done.stderr) || `it ended with status ${done.status}`;
  const version = parseVersion(done.stdout);
  return version === undefined ? "it does not say its version" : { ...tool, version };
}

/**
 * The version in the output of `--version`: QEMU's "version 7.2.22 (Debian ...)", gcc's "(Debian 12.2.0-14) 12.2.0", GNU's and
 * xz's "... 2.40". What stands in brackets is the distributor's.
 */
export function parseVersion(output: string): string | undefined {
  const [line = ""] = output.split("\n");
  return /\d+(?:\.\d+)+/.exec(line.replace(/\([^)]*\)/g, ""))?.[0];
}

/** Whether a dotted version is older than the given numbers. */
export function isOlder(version: string, than: readonly number[]): boolean {
  const numbers = version.split(".").map(Number);
  for (const [index, wanted] of than.entries()) {
    const number = numbers[index] ?? 0;
    if (number !== wanted) return number < wanted;
  }
  return false;
}

function prepend(folders: readonly string[], list: string | undefined): string {
  return [...folders, ...(list ? [list] : [])].join(delimiter);
}
