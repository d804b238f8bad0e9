import { Command, Option } from "commander";
import type { VmMode } from "../boot/core.ts";
import { BootError } from "../boot/error.ts";
import { hostInitramfs } from "../boot/initramfs.ts";
import type { Job } from "../boot/job.ts";
import { fetchKernel } from "../boot/kernel.ts";
import type { StoryEvent } from "../boot/story.ts";
import { bootHost } from "../boot/system.ts";
import { openTools, type Tools } from "../boot/tools.ts";
import { buildGuests } from "../guests/build.ts";
import {
  allGood,
  complaint,
  isGood,
  lostReports,
  report,
  reportsIn,
  summary,
  type Told,
  title,
} from "./comparison.ts";
import { Status } from "./exit.ts";
import type { CommandContext } from "./main.ts";
import { machineOptions } from "./options.ts";
import { cannotTell, tellInProcess } from "./processdemo.ts";

/** What the host does in the demo: steps of its /init, see boot/scripts and guests/scripts. */
const steps = ["info", "guest:2:stock", "attack:2"];

/** Longest time that one host may take, seconds. */
const limit = 300;

export interface DemoFlags {
  /** Undefined: QEMU's, or the one in process where there is none. */
  machine?: "qemu" | "process";
  core: "on" | "off" | "both";
  vms: VmMode;
  cpus: number;
  memory: bigint;
  cpu: string;
  timeout?: number;
  json?: boolean;
}

/** `corevisor demo`, which is `npm start`: the same host with its own KVM and on the core, and what each can do. */
export function demoCommand(context: CommandContext): Command {
  return new Command("demo")
    .description(
      "boot a stock Debian host with its own KVM and on the core, run and attack its VMs, and compare",
    )
    .addOption(
      new Option(
        "--machine <qemu|process>",
        "QEMU's, or ours in this process: seconds, no download, host and VMs are scripted (default: qemu, or process where it cannot be had)",
      ).choices(["qemu", "process"]),
    )
    .addOption(
      new Option("--core <on|off|both>", "which of the two hosts to boot")
        .choices(["on", "off", "both"])
        .default("both"),
    )
    .addOption(
      new Option("--vms <MODE>", "on the core: private takes every page that a VM maps from the host")
        .choices(["ordinary", "private"])
        .default("private"),
    )
    .addOption(machineOptions.cpus)
    .addOption(machineOptions.memory)
    .addOption(machineOptions.cpu)
    .addOption(machineOptions.timeout)
    .addOption(machineOptions.json)
    .addHelpText(
      "after",
      "\nAn ordinary VM is the host's own: on the core too, the host reads and writes it, and the demo says so." +
        "\nThe machine in process has only the host on the core, with private VMs and as much memory as its story needs." +
        "\nExit status: 0 all went as it should, 1 something failed, 2 bad input or something missing.",
    )
    .action(async (flags: DemoFlags, command: Command) => {
      // The ways in which the machine in process cannot be as it was asked for.
      const memory = command.getOptionValueSource("memory") === "cli";
      context.finish(await demo(context, flags, cannotTell(flags, memory)));
    });
}

async function demo(
  context: CommandContext,
  flags: DemoFlags,
  notInProcess: BootError | undefined,
): Promise<number> {
  const { progress } = context;
  const begin = performance.now();
  const { told, machine, fallback } = await tellAll(context, flags, notInProcess);
  const seconds = (performance.now() - begin) / 1000;
  progress.stop();
  for (const one of told) if (!isGood(one)) process.stderr.write(`${complaint(one)}\n`);
  for (const name of lostReports(told))
    process.stderr.write(`corevisor: ${title("on")} did not report: ${name}\n`);
  if (flags.json) context.print({ ...report(told, seconds), machine, fallback: fallback ?? null });
  else process.stdout.write(summary(told, seconds));
  if (machine === "process" && !flags.json)
    process.stdout.write(
      "told by the machine in process: the core's WebAssembly is the one that boots, host and VMs are scripted\n",
    );
  return allGood(told) ? Status.OK : Status.FAILED;
}

interface Telling {
  readonly told: readonly Told[];
  readonly machine: "qemu" | "process";
  /** Why it is not QEMU's, where nobody asked for the other. */
  readonly fallback?: string;
}

/** Tells the story in QEMU's machine if all it needs is here or can be fetched, else, and where asked, in the one in process. */
async function tellAll(
  context: CommandContext,
  flags: DemoFlags,
  notInProcess: BootError | undefined,
): Promise<Telling> {
  const { progress } = context;
  if (flags.machine === "process") {
    if (notInProcess) throw notInProcess;
    return { machine: "process", told: [await tellInProcess(flags, progress.onProgress)] };
  }
  const job = await context.openJob();
  const tools = openTools(job);
  try {
    await prepare(job, tools);
  } catch (error) {
    if (!(error instanceof BootError) || flags.machine === "qemu" || notInProcess) throw error;
    progress.stop();
    process.stderr.write(`corevisor: ${error.message}\n`);
    process.stderr.write("corevisor: falling back to the machine in process, which needs no download\n");
    const told = [await tellInProcess(flags, progress.onProgress)];
    return { machine: "process", told, fallback: error.message };
  }
  const told: Told[] = [];
  for (const core of flags.core === "both" ? (["off", "on"] as const) : [flags.core]) {
    const one = await tell(job, tools, flags, core);
    told.push(one);
    progress.done(`${title(core)}: ${one.end.reason} after ${one.end.seconds.toFixed(1)} s`);
  }
  return { machine: "qemu", told };
}

/**
 * Gets everything that does not depend on which machine is booted: QEMU, a compiler, a kernel and what the host runs.
 * @throws BootError when something is not to be had
 */
async function prepare(job: Job, tools: Tools): Promise<void> {
  await tools.qemu();
  await fetchKernel(job);
  await hostInitramfs(job, tools, (await buildGuests(job, tools)).attack);
}

/** Boots one host and listens to it. */
async function tell(job: Job, tools: Tools, flags: DemoFlags, core: "on" | "off"): Promise<Told> {
  const events: StoryEvent[] = [];
  let tail = "";
  const end = await bootHost(job, tools, {
    core,
    vms: flags.vms,
    cpus: flags.cpus,
    memory: flags.memory,
    cpu: flags.cpu,
    qemuArgs: [],
    extraFiles: (await buildGuests(job, tools)).attack,
    append: `quiet corevisor.steps=${steps.join(",")}`,
    timeout: flags.timeout ?? limit,
    onSerial: (bytes) => {
      tail = (tail + bytes.toString("utf8")).slice(-4000);
    },
    onStart: () => job.onProgress({ stage: `${title(core)}: the kernel boots` }),
    onEvent: (event) => {
      events.push(event);
      if (event.event === "step") job.onProgress({ stage: `${title(core)}: ${stepTitle(event.name)}` });
      if (event.event === "attack")
        job.onProgress({ stage: `${title(core)}: ${event.name}: ${event.result}` });
    },
  });
  return { core, vms: flags.vms, end, ...reportsIn(events), console: tail };
}

function stepTitle(name: string): string {
  return (
    { info: "looking around", guest: "a stock VM boots", attack: "the host attacks core and VMs" }[name] ??
    name
  );
}
