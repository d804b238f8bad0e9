import { Command, Option } from "commander";
import type { VmMode } from "../boot/core.ts";
import type { Job } from "../boot/job.ts";
import type { StoryEvent } from "../boot/story.ts";
import { bootHost } from "../boot/system.ts";
import { openTools, type Tools } from "../boot/tools.ts";
import { buildGuests } from "../guests/build.ts";
import {
  allGood,
  complaint,
  type EventOf,
  isGood,
  lostReports,
  report,
  summary,
  type Told,
  title,
} from "./comparison.ts";
import { Status } from "./exit.ts";
import type { CommandContext } from "./main.ts";
import { machineOptions } from "./options.ts";

/** What the host does in the demo: steps of its /init, see boot/scripts and guests/scripts. */
const steps = ["info", "guest:2:stock", "attack:2"];

/** Longest time that one host may take, seconds. */
const limit = 300;

interface DemoFlags {
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
        "\nExit status: 0 all went as it should, 1 something failed, 2 bad input or something missing.",
    )
    .action(async (flags: DemoFlags) => context.finish(await demo(context, flags)));
}

async function demo(context: CommandContext, flags: DemoFlags): Promise<number> {
  const { progress } = context;
  const begin = performance.now();
  const job = await context.openJob();
  const tools = openTools(job);
  const told: Told[] = [];
  for (const core of flags.core === "both" ? (["off", "on"] as const) : [flags.core]) {
    told.push(await tell(job, tools, flags, core));
    progress.done(
      `${title(core)}: ${told.at(-1)?.end.reason} after ${told.at(-1)?.end.seconds.toFixed(1)} s`,
    );
  }
  const seconds = (performance.now() - begin) / 1000;
  progress.stop();
  for (const one of told) if (!isGood(one)) process.stderr.write(`${complaint(one)}\n`);
  for (const name of lostReports(told))
    process.stderr.write(`corevisor: ${title("on")} did not report: ${name}\n`);
  if (flags.json) context.print(report(told, seconds));
  else process.stdout.write(summary(told, seconds));
  return allGood(told) ? Status.OK : Status.FAILED;
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
  const all = <Name extends StoryEvent["event"]>(name: Name) =>
    events.filter((event): event is EventOf<Name> => event.event === name);
  return {
    core,
    vms: flags.vms,
    end,
    host: all("host")[0],
    guests: all("guest"),
    attacks: all("attack"),
    checks: all("check"),
    failedSteps: all("step-ended")
      .filter(({ status }) => status !== 0)
      .map(({ name }) => name),
    console: tail,
  };
}

function stepTitle(name: string): string {
  return (
    { info: "looking around", guest: "a stock VM boots", attack: "the host attacks core and VMs" }[name] ??
    name
  );
}
