import { type ChildProcess, spawn } from "node:child_process";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import { withRunFolder } from "./cache.ts";
import { endWithThisProcess, findOnPath, runCommand } from "./command.ts";
import { BootError, oneLine } from "./error.ts";
import type { Job } from "./job.ts";
import { formatSize } from "./layout.ts";
import { Qmp, type QmpEvent } from "./qmp.ts";
import type { Tool } from "./tools.ts";

/** The machine that QEMU emulates. */
export interface MachineShape {
  /** QEMU's name of the CPU model, `cortex-a76`. */
  readonly cpu: string;
  readonly cpus: number;
  /** Bytes of RAM. */
  readonly memory: bigint;
  /** Further arguments for QEMU, after all others, so that they win. */
  readonly qemuArgs: readonly string[];
}

/** Why a machine stopped. */
export type EndReason =
  /** The system switched itself off. */
  | "poweroff"
  /** The system reset itself. */
  | "reboot"
  /** The kernel or the core gave up; see `MachineEnd.detail`. */
  | "panic"
  | "timeout"
  /** QEMU ended without a word from the system; see `MachineEnd.detail`. */
  | "died";

export interface MachineEnd {
  readonly reason: EndReason;
  /** The panic's first line, or QEMU's last words. */
  readonly detail?: string;
  /** From the first instruction to the end. */
  readonly seconds: number;
}

/** A machine that runs, or that has stopped and still holds its memory. */
export interface Machine {
  /** A copy of the machine's physical memory. It runs on meanwhile; a stopped machine's memory does not change. */
  readMemory(address: bigint, size: bigint): Promise<Uint8Array>;
}

export interface RunOptions {
  readonly qemu: Tool;
  readonly shape: MachineShape;
  /** What to load and start: `-kernel`, `-initrd`, `-device loader`, ... */
  readonly load: readonly string[];
  /** Hears all bytes that the system writes to its serial console, as they come. */
  readonly onSerial: (bytes: Buffer) => void;
  /** Seconds after which the machine is stopped; none for as long as it takes. */
  readonly timeout?: number;
  /** Called when the machine has started. */
  readonly onStart?: (machine: Machine) => void;
  /** Called when the machine has stopped, for whatever reason, unless QEMU itself is gone. */
  readonly beforeEnd?: (machine: Machine, reason: EndReason) => Promise<void>;
}

/** How the Linux kernel and the core begin the line that says they gave up. */
const panicLine = /(?:Kernel panic - not syncing|corevisor: core panic).*/;

/** A panic is followed by its backtrace; the machine is given this long to print it, milliseconds. */
const panicGrace = 1500;

/** Characters of an unfinished line that are kept. */
const longestLine = 65_536;

/** How long `beforeEnd` may take, milliseconds. */
const endLimit = 30_000;

/**
 * Runs a machine until it stops. No process and no file is left, however it ends: QEMU dies with this process at the latest.
 * @throws BootError when QEMU refuses its arguments, with QEMU's reason
 * @throws the job's abort reason when it is aborted; QEMU is gone by then
 */
export async function runMachine(job: Job, options: RunOptions): Promise<MachineEnd> {
  return withRunFolder(job.cache, (folder) => runIn(folder, job, options));
}

/**
 * The device tree that QEMU makes for this machine.
 * @throws BootError when QEMU refuses its arguments
 */
export async function dumpDeviceTree(job: Job, qemu: Tool, shape: MachineShape): Promise<Uint8Array> {
  return withRunFolder(job.cache, async (folder) => {
    const file = join(folder, "qemu.dtb");
    const args = [
      ...qemu.args,
      ...machineArgs(shape),
      ...shape.qemuArgs,
      "-machine",
      `dumpdtb=${optionValue(file)}`,
    ];
    const done = await runCommand(qemu.command, args, { env: qemu.env, signal: job.signal });
    if (done.status !== 0) throw refused(done.stderr);
    return readFile(file);
  });
}

/** A file name as part of an option such as `-device loader,file=NAME`, where a comma would begin the next part. */
export function optionValue(path: string): string {
  return path.replaceAll(",", ",,");
}

function machineArgs(shape: MachineShape): string[] {
  return [
    ["-machine", "virt,virtualization=on,gic-version=3"],
    ["-cpu", shape.cpu],
    ["-smp", `${shape.cpus}`],
    ["-m", formatSize(shape.memory)],
    ["-nodefaults", "-no-user-config", "-display", "none"],
  ].flat();
}

function refused(stderr: string): BootError {
  const words = oneLine(stderr).replace(/^\S*qemu-system-aarch64: /, "");
  return new BootError(
    `QEMU refused to start: ${words || "it gave no reason"}`,
    "check --cpu, --memory and --qemu-arg",
  );
}

/** QEMU, started and stopped before its first instruction, with its control connection. */
interface Started {
  readonly child: ChildProcess;
  readonly qmp: Qmp;
  /** Everything that QEMU wrote to its standard error. */
  readonly words: () => string;
  /** Resolves when QEMU is gone and all its output has been read. */
  readonly gone: Promise<void>;
}

/**
 * Starts QEMU. Its serial console is its standard output. Its control connection is a socket that it inherits as descriptor 3, so
 * that nobody else can connect and no file is left.
 */
async function startQemu(options: RunOptions, onEvent: (event: QmpEvent) => void): Promise<Started> {
  const { qemu, shape, load } = options;
  const args = [
    ...qemu.args,
    ...machineArgs(shape),
    ...["-chardev", "socket,id=control,fd=3", "-mon", "chardev=control,mode=control"],
    ...["-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial"],
    // A machine that has switched itself off keeps its memory until it has been read.
    ...["-S", "-no-reboot", "-no-shutdown"],
    ...load,
    ...shape.qemuArgs,
  ];
  const [command, ...commandArgs] = [...(await deathSignal()), qemu.command, ...args] as [
    string,
    ...string[],
  ];
  const child = spawn(command, commandArgs, {
    // A session of its own: Ctrl-C is for this process to handle.
    detached: true,
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    env: { ...process.env, ...qemu.env },
  });
  endWithThisProcess(child);
  let words = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    words += text;
  });
  child.once("error", (error) => {
    words += error.message;
  });
  const gone = new Promise<void>((resolve) => child.once("close", () => resolve()));
  return { child, qmp: new Qmp(child.stdio[3] as Duplex, onEvent), words: () => words, gone };
}

/** The command prefix that has the kernel end QEMU when this process ends in whatever way; empty where util-linux is too old. */
async function deathSignal(): Promise<string[]> {
  const setpriv = await findOnPath("setpriv");
  if (setpriv === undefined) return [];
  const help = await runCommand(setpriv, ["--help"]);
  return help.stdout.includes("--pdeathsig") ? [setpriv, "--pdeathsig", "KILL", "--"] : [];
}

async function runIn(folder: string, job: Job, options: RunOptions): Promise<MachineEnd> {
  const { signal } = job;
  signal.throwIfAborted();
  const timers: NodeJS.Timeout[] = [];
  const after = (milliseconds: number, work: () => void) => timers.push(setTimeout(work, milliseconds));
  let end: (reason: EndReason) => void = () => {};
  const ended = new Promise<EndReason>((resolve) => {
    end = resolve;
  });
  let panic: string | undefined;
  const lines = new SerialLines((line) => {
    const found = panicLine.exec(line)?.[0];
    if (found === undefined || panic !== undefined) return;
    panic = found;
    after(panicGrace, () => end("panic"));
  });
  const { child, qmp, words, gone } = await startQemu(options, ({ name, data }) => {
    const reason = shutdownReasons.get(`${name} ${String(data.reason ?? data.action)}`);
    // What the console said last may still be on its way.
    if (reason !== undefined) after(50, () => end(reason));
  });
  const kill = () => child.kill("SIGKILL");
  signal.addEventListener("abort", kill, { once: true });
  try {
    child.stdout?.on("data", (bytes: Buffer) => {
      options.onSerial(bytes);
      lines.push(bytes);
    });
    const started = qmp.execute("qmp_capabilities").then(() => qmp.execute("cont"));
    const refusal = gone.then(() => {
      throw refused(words());
    });
    await Promise.race([started.catch(() => refusal), refusal]);
    refusal.catch(() => end("died"));
    signal.throwIfAborted();
    const begin = performance.now();
    const machine = machineOn(qmp, folder);
    options.onStart?.(machine);
    if (options.timeout !== undefined) after(options.timeout * 1000, () => end("timeout"));
    const cause = await ended;
    const seconds = (performance.now() - begin) / 1000;
    signal.throwIfAborted();
    // A kernel that panics may reset the machine: the panic is why.
    const reason = panic !== undefined && cause !== "timeout" ? "panic" : cause;
    if (reason !== "died" && options.beforeEnd) {
      await qmp.execute("stop");
      const late = new Promise<never>((_, reject) => {
        after(endLimit, () => reject(new Error("reading the stopped machine took too long")));
      });
      await Promise.race([options.beforeEnd(machine, reason), late]);
    }
    signal.throwIfAborted();
    const detail = reason === "panic" ? panic : reason === "died" ? oneLine(words()) : undefined;
    return { reason, seconds, ...(detail ? { detail } : {}) };
  } catch (error) {
    // Whatever failed because QEMU was killed failed for the reason it was killed.
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", kill);
    timers.forEach(clearTimeout);
    kill();
    await gone;
  }
}

/** What ends a run: QMP events by name and reason (qapi/run-state.json). */
const shutdownReasons: ReadonlyMap<string, EndReason> = new Map([
  ["SHUTDOWN guest-shutdown", "poweroff"],
  ["SHUTDOWN guest-reset", "reboot"],
  ["SHUTDOWN guest-panic", "panic"],
  ["GUEST_PANICKED pause", "panic"],
  ["GUEST_PANICKED poweroff", "panic"],
]);

function machineOn(qmp: Qmp, folder: string): Machine {
  let dumps = 0;
  return {
    readMemory: async (address, size) => {
      const file = join(folder, `memory-${dumps++}`);
      // Addresses fit: the machine's memory ends far below 2^53.
      await qmp.execute("pmemsave", { val: Number(address), size: Number(size), filename: file });
      const bytes = await readFile(file);
      await rm(file);
      return bytes;
    },
  };
}

/** Cuts a serial stream into lines. */
export class SerialLines {
  readonly #decoder = new StringDecoder("utf8");
  readonly #onLine: (line: string) => void;
  #rest = "";

  /** @param onLine hears each line, without its end */
  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(bytes: Buffer): void {
    const lines = (this.#rest + this.#decoder.write(bytes)).split("\n");
    // A stream without line ends must not fill the memory.
    this.#rest = (lines.pop() ?? "").slice(-longestLine);
    for (const line of lines) this.#onLine(line.replace(/\r$/, ""));
  }
}
