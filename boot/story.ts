import { z } from "zod";

/**
 * What the host's /init and its steps report, one line of the console each: `@corevisor {"event": ...}`
 * (scripts/host-init.sh). More keys may come.
 */
const eventSchema = z.discriminatedUnion("event", [
  z.looseObject({ event: z.literal("up"), uptime: z.number() }),
  z.looseObject({ event: z.literal("step"), name: z.string() }),
  z.looseObject({ event: z.literal("step-ended"), name: z.string(), status: z.number(), uptime: z.number() }),
  z.looseObject({
    event: z.literal("host"),
    kernel: z.string(),
    kvmMode: z.string(),
    cpus: z.number(),
    memoryKiB: z.number(),
  }),
  z.looseObject({
    event: z.literal("guest"),
    kind: z.string(),
    vcpus: z.number(),
    online: z.number(),
    booted: z.boolean(),
    poweredOff: z.boolean(),
    /** A guest of the kind `devices` reports on these too. */
    disk: z.boolean().optional(),
    net: z.boolean().optional(),
    console: z.boolean().optional(),
    itsInterrupts: z.number().optional(),
  }),
  z.looseObject({ event: z.literal("hotplug"), cpus: z.number() }),
  z.looseObject({
    event: z.literal("cycles"),
    count: z.number(),
    freeBeforeKiB: z.number(),
    freeAfterKiB: z.number(),
  }),
  z.looseObject({
    event: z.literal("attack"),
    /** What is attacked: the core itself, or a VM. */
    target: z.enum(["core", "vm"]),
    name: z.string(),
    result: z.enum(["succeeded", "refused"]),
    /** What the attacker saw: an errno, a signal, how many words of the secret. */
    detail: z.string().optional(),
  }),
  /** What must hold whatever the attacks came to: the VM goes on, its pages come back zeroed. */
  z.looseObject({
    event: z.literal("check"),
    name: z.string(),
    ok: z.boolean(),
    detail: z.string().optional(),
  }),
  z.looseObject({ event: z.literal("done") }),
]);

/** A report from inside the host. */
export type StoryEvent = z.infer<typeof eventSchema>;

/**
 * The report in a line of the host's console, or undefined when there is none. The console belongs to the untrusted host: a
 * line that does not have the right shape is none.
 */
export function parseStoryLine(line: string): StoryEvent | undefined {
  const json = /@corevisor (\{.*\})\s*$/.exec(line)?.[1];
  if (json === undefined) return undefined;
  try {
    return eventSchema.safeParse(JSON.parse(json)).data;
  } catch {
    return undefined;
  }
}
