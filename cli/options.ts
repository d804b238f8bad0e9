import { InvalidArgumentError, Option } from "commander";
import { parseSize } from "../boot/layout.ts";

/** The options that describe the machine, the same for every command that starts one. */
export const machineOptions = {
  cpus: new Option("--cpus <N>", "CPUs of the machine").argParser(wholeNumber(1, 512)).default(2),
  memory: new Option("--memory <SIZE>", "its RAM, such as 1024M or 4G")
    .argParser(parseSize)
    .default(parseSize("1G"), "1G"),
  cpu: new Option("--cpu <MODEL>", "its CPU model, as QEMU names it").default("cortex-a76"),
  timeout: new Option("--timeout <S>", "stop it after this many seconds").argParser(
    wholeNumber(1, 1_000_000),
  ),
  json: new Option("--json", "print one JSON object as the last line of standard output"),
} as const;

/** An option parser for a whole number in a range. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  };
}

/**
 * Collects `--qemu-arg`. One value is one argument of QEMU's; an option and its value may also come together, as in
 * `--qemu-arg "-device virtio-rng-pci"`, because no option of QEMU's has a blank in its name.
 */
export function collectQemuArg(value: string, collected: readonly string[]): string[] {
  const together = /^(-\S+)\s+(.*)$/s.exec(value);
  return together?.[1] === undefined ? [...collected, value] : [...collected, together[1], together[2] ?? ""];
}
