import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import {
  cachePath,
  diskFull,
  exists,
  freeSpace,
  guardFiles,
  temporaryName,
  withLock,
  writeAtomically,
} from "./cache.ts";
import { type Finished, findOnPath, runCommand } from "./command.ts";
import { BootError, systemCode } from "./error.ts";
import type { Job } from "./job.ts";
import { debianSources, formatDeb822 } from "./sources.ts";

/** A disk with less than this many bytes left is full. */
const leastSpace = 2 ** 20;

/** What to fetch from the Debian archive. */
export interface PackageSet {
  /** For the user: what the set is for, `QEMU for this machine`. */
  readonly purpose: string;
  readonly names: readonly string[];
  /** `native`: programs to run here, beside the libraries that are installed already. `arm64`: a root of its own. */
  readonly architecture: "native" | "arm64";
  /** Whether to fetch what the packages depend on as well. */
  readonly dependencies: boolean;
}

/** An unpacked package set. */
export interface Unpacked {
  /** The folder that stands for `/`. */
  readonly root: string;
  /** `name_version_architecture` of each package in it. */
  readonly packages: readonly string[];
}

const manifestSchema = z.object({ packages: z.array(z.string()) });

/** Lists older than this are fetched anew before anything is downloaded: the archive drops what it supersedes. */
const listsStayFresh = 24 * 60 * 60 * 1000;

/**
 * Fetches and unpacks a package set into the cache, without root and without touching the system's package manager. A set that
 * is in the cache already needs neither network nor package manager; an interrupted download goes on where it stopped. apt checks
 * every file against the signed lists.
 * @throws BootError when apt or dpkg are missing, the archive cannot be reached, a package is unknown, or the disk is full
 */
export async function fetchPackages(job: Job, set: PackageSet): Promise<Unpacked> {
  const folder = cachePath(job.cache, "packages", packageSetKey(set));
  const cached = await readUnpacked(folder);
  if (cached) return cached;
  return withApt(job, set.architecture, async (apt) => {
    // Another run may have fetched the set while this one waited for the lock.
    const fetched = await readUnpacked(folder);
    if (fetched) return fetched;
    const archives = join(apt.folder, "archives", packageSetKey(set));
    await guardFiles(archives, () => mkdir(join(archives, "partial"), { recursive: true }));
    await withFreshLists(job, apt, set.purpose, () => download(job, apt, set, archives));
    const unpacked = await unpack(job, set, archives, folder);
    await rm(archives, { recursive: true, force: true });
    return unpacked;
  });
}

/** A package that stands for whichever package is current. */
export interface Metapackage {
  readonly purpose: string;
  /** Its names, the best first. */
  readonly candidates: readonly string[];
  /** How the name of the package that it stands for begins. */
  readonly prefix: string;
  readonly architecture: PackageSet["architecture"];
}

/**
 * The package that a metapackage stands for: of the first candidate that the archive has, the first dependency with the prefix.
 * `linux-image-6.12-cloud-arm64` → `linux-image-6.12.117+deb12-cloud-arm64`. The answer is remembered in the cache, so that
 * a cached kernel stays in use until the cache is cleared.
 * @throws BootError when the archive has none of them
 */
export async function resolveMetapackage(job: Job, metapackage: Metapackage): Promise<string> {
  const { candidates, prefix, architecture, purpose } = metapackage;
  const known = await resolvedMetapackage(job, metapackage);
  if (known !== undefined) return known;
  return withApt(job, architecture, async (apt) => {
    const name = await withFreshLists(job, apt, purpose, async () => {
      for (const candidate of candidates) {
        const shown = await runCommand(
          "apt-cache",
          ["-c", apt.configuration, "--no-all-versions", "show", candidate],
          {
            signal: job.signal,
          },
        );
        const depends = /^Depends: (.*)$/m.exec(shown.stdout)?.[1] ?? "";
        const found = depends
          .split(/[,|]/)
          .map((dependency) => dependency.trim().split(" ")[0] ?? "")
          .find((dependency) => dependency.startsWith(prefix));
        if (found !== undefined) return found;
      }
      throw new BootError(
        `${purpose}: your Debian package sources have no package ${prefix}* (asked for ${candidates.join(", ")})`,
        "add the current Debian stable to your apt sources, or name a file on the command line",
      );
    });
    await writeAtomically(metapackageMemo(job, metapackage), Buffer.from(`${name}\n`));
    return name;
  });
}

/** What resolveMetapackage has found before, or undefined. */
export async function resolvedMetapackage(
  job: Pick<Job, "cache">,
  metapackage: Metapackage,
): Promise<string | undefined> {
  const memo = metapackageMemo(job, metapackage);
  return (await exists(memo)) ? (await readFile(memo, "utf8")).trim() : undefined;
}

function metapackageMemo(job: Pick<Job, "cache">, { candidates, prefix, architecture }: Metapackage): string {
  const request = JSON.stringify([candidates, prefix, architecture]);
  const key = createHash("sha256").update(request).digest("hex").slice(0, 16);
  return cachePath(job.cache, "packages", `${key}.name`);
}

/** The name of a package set's folder: the same for the same request. */
export function packageSetKey(set: PackageSet): string {
  const request = JSON.stringify([set.architecture, set.dependencies, [...set.names].sort()]);
  const digest = createHash("sha256").update(request).digest("hex").slice(0, 12);
  return `${set.names[0] ?? "empty"}-${digest}`;
}

/** Whether the package set is in the cache, complete. */
export async function arePackagesCached(job: Pick<Job, "cache">, set: PackageSet): Promise<boolean> {
  return (await readUnpacked(cachePath(job.cache, "packages", packageSetKey(set)))) !== undefined;
}

/** A private apt: its folder and its configuration file. */
interface Apt {
  readonly folder: string;
  readonly configuration: string;
}

async function readUnpacked(folder: string): Promise<Unpacked | undefined> {
  try {
    const manifest = manifestSchema.parse(JSON.parse(await readFile(join(folder, "manifest.json"), "utf8")));
    return { root: join(folder, "root"), packages: manifest.packages };
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw new BootError(`${join(folder, "manifest.json")} is damaged`, `remove the folder ${folder}`, {
      cause: error,
    });
  }
}

async function withApt<T>(
  job: Job,
  architecture: PackageSet["architecture"],
  work: (apt: Apt) => Promise<T>,
): Promise<T> {
  for (const [command, from] of [
    ["apt-get", "apt"],
    ["apt-cache", "apt"],
    ["dpkg-deb", "dpkg"],
  ] as const) {
    if ((await findOnPath(command)) === undefined) {
      throw new BootError(
        `${command} is missing, which fetches what is not installed`,
        `install ${from} on a Debian system, or install qemu-system-aarch64 and name your own --kernel and --initrd`,
      );
    }
  }
  const waiting = () => job.onProgress({ stage: "waiting for another corevisor that is downloading" });
  return withLock(job.cache, `apt-${architecture}`, { signal: job.signal, onWait: waiting }, async () =>
    work(await prepareApt(job, architecture)),
  );
}

/** Writes the private configuration: this system's Debian sources, and folders of our own for everything else. */
async function prepareApt(job: Job, architecture: PackageSet["architecture"]): Promise<Apt> {
  const folder = cachePath(job.cache, "apt", architecture);
  const sources = await debianSources();
  if (sources.length === 0) {
    throw new BootError(
      "this system's apt sources (/etc/apt) have no entry for Debian's own archive",
      "add one, or install qemu-system-aarch64 and name your own --kernel and --initrd",
    );
  }
  const native = architecture === "native";
  const status = join(folder, "dpkg", "status");
  const settings = [
    `Dir::State "${join(folder, "state")}";`,
    `Dir::State::status "${status}";`,
    `Dir::Cache "${join(folder, "cache")}";`,
    `Dir::Log "${join(folder, "log")}";`,
    'Dir::Etc::sourcelist "/dev/null";',
    `Dir::Etc::sourceparts "${join(folder, "sources")}";`,
    'APT::Sandbox::User "";',
    'APT::Install-Recommends "false";',
    'APT::Install-Suggests "false";',
    'APT::Keep-Downloaded-Packages "true";',
    'APT::Update::Error-Mode "any";',
    'Acquire::Languages "none";',
    'Acquire::Retries "3";',
    // What the system does after an update (clear caches, tell a desktop) is not ours to trigger, and needs root.
    "#clear APT::Update::Pre-Invoke;",
    "#clear APT::Update::Post-Invoke;",
    "#clear APT::Update::Post-Invoke-Success;",
    "#clear DPkg::Pre-Install-Pkgs;",
    "#clear DPkg::Post-Invoke;",
    ...(native
      ? []
      : ['APT::Architecture "arm64";', "#clear APT::Architectures;", 'APT::Architectures { "arm64"; };']),
  ];
  const configuration = join(folder, "apt.conf");
  await guardFiles(folder, async () => {
    for (const below of ["state/lists/partial", "cache/archives/partial", "sources", "log", "dpkg"]) {
      await mkdir(join(folder, below), { recursive: true });
    }
    await writeFile(join(folder, "sources", "debian.sources"), formatDeb822(sources));
    await writeFile(configuration, `${settings.join("\n")}\n`);
    // Libraries that are installed here need not be fetched again. It is a copy because apt locks the folder that it is in.
    await writeFile(status, native ? await readFile("/var/lib/dpkg/status").catch(() => "") : "");
  });
  return { folder, configuration };
}

/**
 * Runs work that needs the package lists. Missing or old lists are fetched first; when the work fails with lists that were not
 * fetched just now, they are fetched and the work is tried once more.
 */
async function withFreshLists<T>(job: Job, apt: Apt, purpose: string, work: () => Promise<T>): Promise<T> {
  const lists = join(apt.folder, "updated");
  const age = await stat(lists).then(
    ({ mtimeMs }) => Date.now() - mtimeMs,
    () => Number.POSITIVE_INFINITY,
  );
  const fresh = age < listsStayFresh;
  if (!fresh) await updateLists(job, apt, purpose, lists);
  try {
    return await work();
  } catch (error) {
    if (!fresh || !(error instanceof BootError) || job.signal.aborted) throw error;
    await updateLists(job, apt, purpose, lists);
    return work();
  }
}

async function updateLists(job: Job, apt: Apt, purpose: string, mark: string): Promise<void> {
  await runApt(job, apt, purpose, ["update"], "reading Debian's package lists");
  await guardFiles(mark, () => writeFile(mark, ""));
}

async function download(job: Job, apt: Apt, set: PackageSet, archives: string): Promise<void> {
  const stage = `downloading ${set.purpose}`;
  if (set.dependencies) {
    const options = ["-o", `Dir::Cache::archives=${archives}/`, "--download-only", "--yes"];
    await runApt(job, apt, set.purpose, [...options, "install", ...set.names], stage);
  } else {
    await runApt(job, apt, set.purpose, ["download", ...set.names], stage, archives);
  }
}

/** Runs apt-get and turns its progress into ours and its failure into one line. */
async function runApt(
  job: Job,
  apt: Apt,
  purpose: string,
  args: readonly string[],
  stage: string,
  cwd?: string,
): Promise<void> {
  job.onProgress({ stage });
  // apt waits for ever where its lists do not fit on the disk.
  const full = new AbortController();
  const watch = setInterval(async () => {
    if ((await freeSpace(job.cache)) < leastSpace) full.abort(diskFull(apt.folder, undefined));
  }, 1000);
  const common = ["-c", apt.configuration, "-q", "-o", "APT::Status-Fd=3"];
  const done = await runCommand("apt-get", [...common, ...args], {
    signal: AbortSignal.any([job.signal, full.signal]),
    onStatusLine: (line) => {
      const percent = /^dlstatus:\d+:([\d.]+):/.exec(line)?.[1];
      if (percent !== undefined) job.onProgress({ stage, fraction: Number(percent) / 100 });
    },
    ...(cwd === undefined ? {} : { cwd }),
  }).finally(() => clearInterval(watch));
  if (done.status !== 0) throw explainApt(purpose, apt.folder, done);
}

/** The one line that says why apt-get failed. */
export function explainApt(purpose: string, folder: string, done: Finished): BootError {
  const reasons = done.stderr
    .split("\n")
    .filter((line) => line.startsWith("E:"))
    .map((line) => line.slice(2).trim());
  const all = reasons.join(" ");
  if (/No space left on device|enough free space/i.test(all)) return diskFull(folder, all);
  const unknown = /Unable to locate package (\S+)|Package '?([^' ]+)'? has no installation candidate/.exec(
    all,
  );
  if (unknown) {
    return new BootError(
      `${purpose}: your Debian package sources have no package ${unknown[1] ?? unknown[2]}`,
      "add the current Debian stable to your apt sources",
    );
  }
  const reason = reasons[0] ?? `apt-get ended with status ${done.status}`;
  if (/resolv|connect|timed? ?out|network|unreachable|fetch|download/i.test(all)) {
    return new BootError(
      `cannot download ${purpose}: ${reason}`,
      "check the network and run the command again",
    );
  }
  return new BootError(`apt-get failed for ${purpose}: ${reason}`, `see ${folder}`);
}

/** Unpacks every downloaded package into a new root and moves it into place as a whole. */
async function unpack(job: Job, set: PackageSet, archives: string, folder: string): Promise<Unpacked> {
  const files = (await readdir(archives)).filter((name) => name.endsWith(".deb")).sort();
  if (files.length === 0) {
    throw new BootError(
      `apt fetched nothing for ${set.purpose}: ${set.names.join(", ")} is installed already but its command is not on PATH`,
      "add it to PATH",
    );
  }
  return guardFiles(folder, async () => {
    const temporary = temporaryName(folder);
    try {
      const root = join(temporary, "root");
      await mkdir(root, { recursive: true });
      for (const [index, file] of files.entries()) {
        job.onProgress({ stage: `unpacking ${set.purpose}`, fraction: index / files.length });
        const done = await runCommand("dpkg-deb", ["-x", join(archives, file), root], { signal: job.signal });
        if (done.status !== 0) throw explainUnpack(file, folder, done);
      }
      const packages = files.map((name) => decodeURIComponent(name.replace(/\.deb$/, "")));
      await writeFile(join(temporary, "manifest.json"), `${JSON.stringify({ packages }, null, 2)}\n`);
      await rm(folder, { recursive: true, force: true });
      await rename(temporary, folder);
      return { root: join(folder, "root"), packages };
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error;
    }
  });
}

function explainUnpack(file: string, folder: string, done: Finished): BootError {
  if (/No space left on device/i.test(done.stderr)) return diskFull(folder, done.stderr);
  return new BootError(`cannot unpack ${file}: ${done.stderr}`, "run the command again");
}
