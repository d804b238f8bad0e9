import { Command, Option } from "commander";
import type { VmMode } from "../boot/core.ts";
import { BootError } from "../boot/error.ts";
import { bootHost, type HostEnd } from "../boot/system.ts";
import { openTools } from "../boot/tools.ts";
import { formatEvent } from "../boot/trace.ts";
import { Status } from "./exit.ts";
import type { CommandContext } from "./main.ts";
import { collectQemuArg, machineOptions } from "./options.ts";

interface RunFlags {
  kernel?: string;
  initrd?: string;
  append?: string;
  cpus: number;
  memory: bigint;
  cpu: string;
  core: "on" | "off";
  vms: VmMode;
  qemuArg: string[];
  timeout?: number;
  log?: string;
  trace?: boolean;
  json?: boolean;
}

/** `corevisor run`: one host, its serial console on standard output. */
export function runCommand(context: CommandContext): Command {
  return new Command("run")
    .description("boot a host, on the core or with its own KVM, and show its serial console")
    .option("--kernel <FILE>", "an arm64 kernel Image (default: Debian's Linux 6.12)")
    .option("--initrd <FILE>", "its initramfs (default: one that reports on the host and powers off)")
    .option("--append <STR>", "add to the kernel command line")
    .addOption(machineOptions.cpus)
    .addOption(machineOptions.memory)
    .addOption(machineOptions.cpu)
    .addOption(
      new Option("--core <on|off>", "run the host on the core, or with its own KVM")
        .choices(["on", "off"])
        .default("on"),
    )
    .addOption(
      new Option("--vms <MODE>", "private: take every page a VM maps from the host")
        .choices(["ordinary", "private"])
        .default("ordinary"),
    )
    .addOption(
      new Option("--qemu-arg <ARG>", "pass an argument to QEMU; may be repeated")
        .argParser(collectQemuArg)
        .default([], "none"),
    )
    .addOption(machineOptions.timeout)
    .option("--log <FILE>", "write the serial console to a file too")
    .option("--trace", "record entries and exits too, and print the core's last events when the host ends")
    .addOption(machineOptions.json)
    .addHelpText(
      "after",
      "\nExit status: 0 the host powered off or rebooted, 1 it panicked, hung or QEMU died, 2 bad input or something missing." +
        "\nA reboot ends the run; to let the machine really reset: --qemu-arg '-action reboot=reset'",
    )
    .action(async (flags: RunFlags) => context.finish(await run(context, flags)));
}

async function run(context: CommandContext, flags: RunFlags): Promise<number> {
  const { qemuArg, trace, json, ...config } = flags;
  if (trace && flags.core === "off")
    throw new BootError("--trace shows the core's events", "leave out --core off");
  const { progress, print } = context;
  const job = await context.openJob();
  const end = await bootHost(job, openTools(job), {
    ...config,
    qemuArgs: qemuArg,
    traceExits: trace ?? false,
    ...(json
      ? {}
      : { onSerial: (bytes: Buffer) => process.stdout.write(bytes), onStart: () => progress.stop() }),
  });
  progress.stop();
  const events = trace ? end.events.map(formatEvent) : [];
  if (json) print(trace ? { ...report(end), events } : report(end));
  else {
    for (const event of events) process.stdout.write(`${event}\n`);
    if (!end.ok) process.stderr.write(`corevisor: ${end.corePanic ?? describe(end)}\n`);
  }
  return end.ok ? Status.OK : Status.FAILED;
}

/** The JSON that scripts rely on: `ok`, `reason`, `seconds` and `kcore`. */
function report(end: HostEnd): Record<string, unknown> {
  return {
    ok: end.ok,
    reason: end.reason,
    ...(end.detail === undefined ? {} : { detail: end.detail }),
    seconds: Number(end.seconds.toFixed(3)),
    kernel: end.release ?? null,
    kcore: end.core ? { wasmSha256: end.core.wasmSha256 } : null,
  };
}

function describe(end: HostEnd): string {
  const after = `after ${end.seconds.toFixed(1)} s`;
  switch (end.reason) {
    case "panic":
      return `the host panicked ${after}: ${end.detail}`;
    case "timeout":
      return `the host was stopped ${after}: --timeout`;
    case "died":
      return `QEMU died ${after}: ${end.detail ?? "it gave no reason"}`;
    default:
      return `the host ended ${after}: ${end.reason}`;
  }
}
