import { Command, Option } from "commander";
import pc from "picocolors";
import type { Job } from "../boot/job.ts";
import type { StoryEvent } from "../boot/story.ts";
import { bootHost, type HostEnd } from "../boot/system.ts";
import { openTools, type Tools } from "../boot/tools.ts";
import { Status } from "./exit.ts";
import type { CommandContext } from "./main.ts";
import { machineOptions } from "./options.ts";

/** What the host does in the demo: steps of its /init, see boot/scripts. */
const steps = ["info", "guest:2:stock"];

/** Longest time that one host may take, seconds. */
const limit = 300;

interface DemoFlags {
  core: "on" | "off" | "both";
  cpus: number;
  memory: bigint;
  cpu: string;
  timeout?: number;
  json?: boolean;
}

type EventOf<Name extends StoryEvent["event"]> = Extract<StoryEvent, { event: Name }>;

/** What one host reported. */
interface Told {
  readonly core: "on" | "off";
  readonly end: HostEnd;
  readonly host: EventOf<"host"> | undefined;
  readonly guests: readonly EventOf<"guest">[];
  readonly attacks: readonly EventOf<"attack">[];
  readonly failedSteps: readonly string[];
  /** The end of its console, to show when something failed. */
  readonly console: string;
}

/** `corevisor demo`, which is `npm start`: the same host with its own KVM and on the core, and what each can do. */
export function demoCommand(context: CommandContext): Command {
  return new Command("demo")
    .description("boot a stock Debian host with its own KVM and on the core, run its VMs, and compare")
    .addOption(
      new Option("--core <on|off|both>", "which of the two hosts to boot")
        .choices(["on", "off", "both"])
        .default("both"),
    )
    .addOption(machineOptions.cpus)
    .addOption(machineOptions.memory)
    .addOption(machineOptions.cpu)
    .addOption(machineOptions.timeout)
    .addOption(machineOptions.json)
    .addHelpText(
      "after",
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
  const ok = told.every(isGood);
  for (const one of told) if (!isGood(one)) process.stderr.write(`${complaint(one)}\n`);
  if (flags.json) context.print(report(told, ok, seconds));
  else process.stdout.write(summary(told, seconds));
  return ok ? Status.OK : Status.FAILED;
}

/** Boots one host and listens to it. */
async function tell(job: Job, tools: Tools, flags: DemoFlags, core: "on" | "off"): Promise<Told> {
  const events: StoryEvent[] = [];
  let tail = "";
  const end = await bootHost(job, tools, {
    core,
    vms: "ordinary",
    cpus: flags.cpus,
    memory: flags.memory,
    cpu: flags.cpu,
    qemuArgs: [],
    append: `quiet corevisor.steps=${steps.join(",")}`,
    timeout: flags.timeout ?? limit,
    onSerial: (bytes) => {
      tail = (tail + bytes.toString("utf8")).slice(-4000);
    },
    onStart: () => job.onProgress({ stage: `${title(core)}: the kernel boots` }),
    onEvent: (event) => {
      events.push(event);
      if (event.event === "step") job.onProgress({ stage: `${title(core)}: ${stepTitle(event.name)}` });
    },
  });
  const all = <Name extends StoryEvent["event"]>(name: Name) =>
    events.filter((event): event is EventOf<Name> => event.event === name);
  return {
    core,
    end,
    host: all("host")[0],
    guests: all("guest"),
    attacks: all("attack"),
    failedSteps: all("step-ended")
      .filter(({ status }) => status !== 0)
      .map(({ name }) => name),
    console: tail,
  };
}

function title(core: "on" | "off"): string {
  return core === "on" ? "host on Corevisor" : "host with its own KVM";
}

function stepTitle(name: string): string {
  return { info: "looking around", guest: "a stock VM boots" }[name] ?? name;
}

/** Whether the host did all it was asked and ended by itself, and, on the core, refused every attack. */
function isGood(told: Told): boolean {
  return (
    told.end.reason === "poweroff" &&
    told.failedSteps.length === 0 &&
    told.host !== undefined &&
    told.guests.length > 0 &&
    told.guests.every(({ booted, poweredOff, vcpus, online }) => booted && poweredOff && online === vcpus) &&
    (told.core === "off" || told.attacks.every(({ result }) => result === "refused"))
  );
}

function complaint({ core, end, failedSteps, console }: Told): string {
  const steps = failedSteps.length > 0 ? `, failed: ${failedSteps.join(", ")}` : "";
  return `corevisor: ${title(core)}: ${end.reason}${end.detail ? ` (${end.detail})` : ""}${steps}; its console ended:\n${console}`;
}

/** The JSON that scripts rely on. The host and guests are those on the core, where both were booted. */
function report(told: readonly Told[], ok: boolean, seconds: number): Record<string, unknown> {
  const shown = told.find(({ core }) => core === "on") ?? told[0];
  const core = shown?.end.core;
  return {
    ok,
    seconds: Number(seconds.toFixed(3)),
    host: shown?.host
      ? { kernel: shown.host.kernel, kvmMode: shown.host.kvmMode, cpus: shown.host.cpus }
      : null,
    kcore: core ? { wasmSha256: core.wasmSha256, proved: false } : null,
    guests: (shown?.guests ?? []).map(({ kind, vcpus, booted, poweredOff }) => ({
      kind,
      vcpus,
      booted,
      poweredOff,
    })),
    attacks: attackTable(told),
    hosts: told.map((one) => ({
      core: one.core,
      reason: one.end.reason,
      seconds: Number(one.end.seconds.toFixed(3)),
      kvmMode: one.host?.kvmMode ?? null,
      guests: one.guests.map(({ kind, vcpus, booted, poweredOff }) => ({ kind, vcpus, booted, poweredOff })),
    })),
  };
}

/** Each attack once, with how it went on each host; null where that host did not see it. */
function attackTable(
  told: readonly Told[],
): { name: string; stock: string | null; corevisor: string | null }[] {
  const results = (core: "on" | "off") =>
    new Map(
      told
        .filter((one) => one.core === core)
        .flatMap(({ attacks }) => attacks.map(({ name, result }) => [name, result])),
    );
  const stock = results("off");
  const corevisor = results("on");
  return [...new Set([...stock.keys(), ...corevisor.keys()])].map((name) => ({
    name,
    stock: stock.get(name) ?? null,
    corevisor: corevisor.get(name) ?? null,
  }));
}

/** The table at the end: a column a host. */
function summary(told: readonly Told[], seconds: number): string {
  const row = (name: string, value: (one: Told) => string): string[] => [name, ...told.map(value)];
  const guestKinds = [...new Set(told.flatMap(({ guests }) => guests.map(({ kind }) => kind)))];
  const rows = [
    row("", ({ core }) => title(core)),
    row("host kernel", ({ host }) => host?.kernel ?? "did not come up"),
    row("KVM mode", ({ host }) => host?.kvmMode ?? "-"),
    row("CPUs", ({ host }) => `${host?.cpus ?? "-"}`),
    row("KCore (wasm)", ({ end }) => end.core?.wasmSha256.slice(0, 16) ?? "none"),
    ...guestKinds.map((kind) =>
      row(`${kind} guest`, ({ guests }) => describeGuest(guests.find((guest) => guest.kind === kind))),
    ),
    ...attackTable(told).map(({ name, stock, corevisor }) =>
      row(name, ({ core }) => (core === "on" ? corevisor : stock) ?? "-"),
    ),
    row("host ran for", ({ end }) => `${end.seconds.toFixed(1)} s`),
  ];
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((cells) => cells[column]?.length ?? 0)),
  );
  const text = rows.map((cells, index) => {
    const line = cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("   ")
      .trimEnd();
    return index === 0 ? pc.bold(line) : line;
  });
  return `\n${text.join("\n")}\n\n${pc.dim(`${seconds.toFixed(1)} s in all`)}\n`;
}

function describeGuest(guest: EventOf<"guest"> | undefined): string {
  if (!guest?.booted) return "did not boot";
  const cpus = `${guest.online} vCPU${guest.online === 1 ? "" : "s"}`;
  return `booted with ${cpus}, ${guest.poweredOff ? "powered off" : "did not power off"}`;
}
