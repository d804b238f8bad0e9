import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { access, mkdir, mkdtemp, open, readdir, readFile, rename, rm, statfs } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { BootError, systemCode } from "./error.ts";

/**
 * The folder where everything fetched or built is kept. Deleting it is always safe: it is filled again.
 *
 * | below it | holds |
 * | --- | --- |
 * | `apt/ARCH/` | the private state of the package manager: lists, partial downloads |
 * | `packages/KEY/` | one unpacked set of packages, see packages.ts |
 * | `built/` | files built from them, named by the hash of what they were built from |
 * | `run/PID-*` | private folders of running commands, removed when they end |
 * | `locks/` | one empty file a lock |
 */
export interface Cache {
  readonly root: string;
}

const repository = dirname(dirname(fileURLToPath(import.meta.url)));

/** Where the cache is: `COREVISOR_CACHE`, or `.cache/` at the root of the repository. */
export function cacheFolder(): string {
  const chosen = process.env.COREVISOR_CACHE;
  return chosen ? resolve(chosen) : join(repository, ".cache");
}

/**
 * Opens the cache, creating it on first use, and clears what a killed run left behind.
 * @throws BootError when the folder cannot be created or written
 */
export async function openCache(root: string = cacheFolder()): Promise<Cache> {
  await guardFiles(root, async () => {
    for (const folder of ["apt", "packages", "built", "run", "locks"]) {
      await mkdir(join(root, folder), { recursive: true });
    }
  });
  const cache = { root };
  await clearAbandoned(cache);
  return cache;
}

/** The path of a file or folder of the cache. */
export function cachePath(cache: Cache, ...parts: string[]): string {
  return join(cache.root, ...parts);
}

/** Bytes that can still be written to the cache. */
export async function freeSpace(cache: Cache): Promise<number> {
  const { bavail, bsize } = await statfs(cache.root);
  return bavail * bsize;
}

/** Whether the path exists. */
export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/**
 * Writes a file so that no reader ever sees a part of it: the bytes go to a temporary name beside it, reach the disk, and
 * take the real name in one step. On any failure the old file, if there was one, stands as it was.
 * @throws BootError when the disk is full or the folder cannot be written
 */
export async function writeAtomically(path: string, data: Uint8Array | readonly Uint8Array[]): Promise<void> {
  const temporary = temporaryName(path);
  await guardFiles(path, async () => {
    try {
      const file = await open(temporary, "wx");
      try {
        for (const chunk of data instanceof Uint8Array ? [data] : data) await file.writeFile(chunk);
        await file.datasync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  });
}

/**
 * A name beside a path for what is to become that path. When this process is killed, the next run removes what is left there.
 */
export function temporaryName(path: string): string {
  return `${path}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`;
}

/**
 * Runs work on files and turns the failures a user can mend (full disk, no permission) into a BootError that names the path.
 */
export async function guardFiles<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw explainFileError(path, error);
  }
}

/** The BootError for a system error on this path where the user can mend it, else the error as it came. */
export function explainFileError(path: string, error: unknown): unknown {
  switch (systemCode(error)) {
    case "ENOSPC":
    case "EDQUOT":
      return diskFull(path, error);
    case "EACCES":
    case "EPERM":
    case "EROFS":
    case "ENOTDIR":
      return new BootError(
        `cannot write ${path} (${systemCode(error)})`,
        "set COREVISOR_CACHE to a folder you can write",
        { cause: error },
      );
    default:
      return error;
  }
}

/** The error for a disk that is full. */
export function diskFull(path: string, cause: unknown): BootError {
  return new BootError(
    `the disk is full: cannot write ${path}`,
    "free some space, or set COREVISOR_CACHE to a folder on another disk",
    { cause },
  );
}

/**
 * Runs work while holding a lock that no other process using this cache holds. The kernel keeps the lock (flock), so it is free
 * again however its owner ends.
 * @param onWait called once when another process holds the lock and this one has to wait
 * @throws the signal's reason when it is aborted while waiting
 */
export async function withLock<T>(
  cache: Cache,
  name: string,
  options: { readonly signal: AbortSignal; readonly onWait?: () => void },
  work: () => Promise<T>,
): Promise<T> {
  options.signal.throwIfAborted();
  const path = cachePath(cache, "locks", name);
  // The holder ends when its standard input does: with this process, however that ends. It has its own session, because
  // Ctrl-C reaches a whole process group and the lock must outlive it until this process has cleaned up.
  const holder = spawn("flock", [path, "sh", "-c", "echo held; exec cat"], {
    detached: true,
    stdio: ["pipe", "pipe", "ignore"],
  });
  const waiting = setTimeout(() => options.onWait?.(), 500);
  const giveUp = () => holder.stdin.destroy();
  try {
    await new Promise<void>((held, reject) => {
      holder.stdout.once("data", () => held());
      holder.once("error", (error) => {
        const missing = new BootError(
          "flock is missing, which keeps two runs apart",
          "install the package util-linux",
        );
        reject(systemCode(error) === "ENOENT" ? missing : error);
      });
      holder.once("exit", (status) => reject(new Error(`cannot lock ${path}: flock ended with ${status}`)));
      options.signal.addEventListener(
        "abort",
        () => {
          // Still queueing for the lock, flock does not look at its input.
          holder.kill("SIGKILL");
          reject(options.signal.reason);
        },
        { once: true },
      );
    });
    clearTimeout(waiting);
    return await work();
  } finally {
    clearTimeout(waiting);
    giveUp();
  }
}

/**
 * Runs work with a private folder of its own, and removes the folder afterwards, come what may.
 */
export async function withRunFolder<T>(cache: Cache, work: (folder: string) => Promise<T>): Promise<T> {
  const prefix = cachePath(cache, "run", `${process.pid}-`);
  const folder = await guardFiles(prefix, () => mkdtemp(prefix));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Removes the private folders and unfinished files of processes that are gone. */
async function clearAbandoned(cache: Cache): Promise<void> {
  for (const folder of ["run", "built", "packages"]) {
    for (const name of await readdir(cachePath(cache, folder))) {
      const owner = folder === "run" ? /^(\d+)-/.exec(name)?.[1] : /\.(\d+)-[0-9a-f]+\.tmp$/.exec(name)?.[1];
      if (owner === undefined || (await isAlive(Number(owner)))) continue;
      await rm(cachePath(cache, folder, name), { recursive: true, force: true });
    }
  }
}

/** Whether a process runs. One that has ended and waits to be reaped does not. */
async function isAlive(pid: number): Promise<boolean> {
  try {
    return !/^\d+ \(.*\) Z/s.test(await readFile(`/proc/${pid}/stat`, "latin1"));
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes(systemCode(error) ?? "")) return false;
    throw error;
  }
}
