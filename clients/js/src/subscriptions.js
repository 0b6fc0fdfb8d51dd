/**
 * Many subscriptions on one connection: what is asked for, where each stands, and who gets what. Must not know sockets,
 * tokens or timers: messages come in, commands go out.
 *
 * The gateway sends an event once, however many subscriptions it matches, and does not say for which. To give each
 * subscription everything, once and in order, they are brought in step one after the other, and what comes for one on
 * behalf of the others before its turn, or is newer than what it is being sent, is held until it fits.
 * @module
 */

import { StreamRefused } from "./errors.js";
import { matches } from "./filter.js";

/** @import { Lists, Message } from "./filter.js" */

/** Ids remembered of one subscription; events held for one; task keys in one command, which may have 64 KiB. */
const SEEN = 1000;
const HELD = 10_000;
const KEYS = 200;
/** Greater than every sequence. */
const END = "~";

/**
 * What the application asked for.
 * @typedef {object} Subscriber
 * @property {Lists} filter
 * @property {boolean} snapshot
 * @property {string | null} after position up to which it has everything: `<epoch>:<sequence>` or `<sequence>`
 * @property {(event: Message) => void} take
 * @property {(() => void)} [reset] what it had is incomplete or from another log; current states follow
 * @property {(() => void)} [synced]
 * @property {(error: Error) => void} fail it was refused
 */

/**
 * The same, and what is known of it: ids of events that it got; tasks whose snapshot it got since it was last in step, and
 * the sequence that the snapshot is of; where it belongs on this connection.
 * @typedef {Subscriber & {seen: Set<string>, ahead: Map<string | undefined, string>, group: Group | null}} Member
 */

/**
 * One subscription as the gateway sees it.
 * @typedef {object} Group
 * @property {string} id
 * @property {Lists} filter
 * @property {Set<Member>} members
 * @property {string | null} after
 * @property {boolean} snapshot
 * @property {"queued" | "asked" | "subscribed" | "live"} stage
 * @property {string} floor sequence; what is not greater is known
 * @property {string} horizon sequence up to which all that comes is its own replay, because the others are further on
 * @property {string | null} at sequence to resume after, once there is one
 * @property {Message[]} held in order up to the horizon, once it is subscribed
 */

/** @param {Message} a @param {Message} b */
const byPosition = (a, b) => (a.sequence < b.sequence ? -1 : 1);

/**
 * @param {(command: object) => void} send
 * @param {() => void} redial
 */
export function subscriptions(send, redial) {
  /** @type {Set<Member>} */
  const members = new Set();
  /** in the order in which they are asked for @type {Map<string, Group>} */
  const groups = new Map();
  /** the one that is being brought in step @type {Group | null} */
  let pending = null;
  /** why nothing comes any more @type {Error | null} */
  let stopped = null;
  let flushing = false;
  let count = 0;
  /** the log's name; empty while there is no connection */
  let epoch = "";
  /** sequence up to which everything came that is live */
  let head = "";
  /** @type {string | null} */
  let position = null;

  /** Puts those who have no group into one, and asks for the next. Task watches share groups. */
  function flush() {
    flushing = false;
    if (stopped) {
      for (const member of members) {
        members.delete(member);
        member.fail(stopped);
      }
      groups.clear();
    }
    if (!epoch) return;
    const waiting = [...members].filter((member) => !member.group);
    // What others were sent already is not sent again for a newcomer that wants the past: only a new connection brings it.
    if (groups.size && waiting.some((member) => member.after !== null)) return redial();
    /** by what they have in common @type {Map<unknown, Group>} */
    const shared = new Map();
    for (const member of waiting) {
      const { filter, after, snapshot } = member;
      const key = snapshot && Object.keys(filter).join() === "task" ? after : member;
      let group = shared.get(key);
      if (group && group.filter.task.length < KEYS) {
        group.filter = { task: [...new Set([...group.filter.task, ...filter.task])] };
      } else {
        group = {
          id: `${++count}`, filter, members: new Set(), after, snapshot, stage: "queued", floor: "", horizon: END, at: null,
          held: [],
        };
        groups.set(group.id, group);
        shared.set(key, group);
      }
      group.members.add(member);
      member.group = group;
    }
    ask();
  }

  function ask() {
    if (pending) return;
    let horizon = END;
    for (const group of groups.values()) {
      if (group.stage === "queued") {
        const { id, filter, after, snapshot } = (pending = group);
        group.stage = "asked";
        group.horizon = horizon;
        return send({ op: "subscribe", id, filter, snapshot, ...(after !== null && { after }) });
      }
      horizon = head;
    }
  }

  /** @param {Group} group @param {boolean} there the gateway knows it */
  function forget(group, there = group.stage !== "queued") {
    known();
    groups.delete(group.id);
    if (there) send({ op: "unsubscribe", id: group.id });
    if (pending === group) pending = null;
    ask();
  }

  /**
   * Gives an event to those it is for, unless they have it, by itself or in a snapshot.
   * @param {Group} group
   * @param {Message} event
   */
  function give(group, event) {
    const { id, sequence, partitionkey } = event;
    for (const member of group.members) {
      const { seen, ahead, filter } = member;
      if (seen.has(id) || !matches(filter, event) || !members.has(member)) continue;
      if (event.type === "task.snapshot") ahead.set(partitionkey, sequence);
      else if (sequence <= (ahead.get(partitionkey) ?? "")) continue;
      const [oldest] = seen.add(id);
      if (seen.size > SEEN) seen.delete(oldest);
      member.take(event);
    }
  }

  /** Gives what is held up to a sequence. @param {Group} group @param {string} end */
  function release(group, end) {
    const { held, floor } = group;
    while (held.length && held[0].sequence <= end) {
      const event = /** @type {Message} */ (held.shift());
      if (event.sequence > floor) give(group, event);
    }
  }

  /** An event of the log. @param {Message} event */
  function publish(event) {
    const { sequence } = event;
    for (const group of [...groups.values()]) {
      const { stage, held, members } = group;
      if (stage === "live") {
        if (sequence > head) give(group, event);
      } else if (stage === "subscribed" && sequence <= group.horizon) {
        release(group, sequence);
        held.unshift(event);
        release(group, sequence);
        group.at = sequence;
      } else if (stage === "queued" ? group.after !== null : group.horizon !== END) {
        if ([...members].some(({ filter }) => matches(filter, event)) && held.push(event) > HELD) return redial();
      }
    }
    if (sequence > head) head = sequence;
  }

  /** @param {Group} group @param {string} sequence */
  function synced(group, sequence) {
    group.held.sort(byPosition);
    release(group, END);
    group.stage = "live";
    if (sequence > head || group.horizon === END) head = sequence;
    pending = null;
    for (const member of group.members) {
      member.ahead.clear();
      member.synced?.();
    }
    ask();
  }

  /** Where everything that came so far can be resumed after. @param {Group} group */
  const resumeOf = (group) => {
    const at = group.stage === "live" ? head : group.at;
    return at === null ? group.after : `${epoch}:${at}`;
  };

  /** Position up to which everybody has everything; while somebody has no position yet, an earlier one. */
  function known() {
    const all = [...groups.values()];
    if (all.length && all.every((group) => group.stage === "live" || group.at !== null)) [position] = all.map(resumeOf).sort();
    return position;
  }

  return {
    position: known,

    /** @param {Subscriber} subscriber @returns {() => void} ends it */
    add(subscriber) {
      const member = /** @type {Member} */ (Object.assign(subscriber, { seen: new Set(), ahead: new Map(), group: null }));
      members.add(member);
      if (!flushing) queueMicrotask(flush); // with all others that are added in this turn
      flushing = true;
      return () => {
        if (!members.delete(member) || !member.group) return;
        member.group.members.delete(member);
        if (!member.group.members.size) forget(member.group);
      };
    },

    /** @param {Message} event */
    message(event) {
      const { type, data } = event;
      const group = groups.get(data.id);
      if (type === "stream.opened") {
        epoch = data.epoch;
        flush();
      } else if (type === "stream.subscribed") {
        if (!group) return;
        group.stage = "subscribed";
        group.floor = data.sequence;
        group.held.sort(byPosition);
        if (data.resume === "live") group.at = data.sequence; // nothing comes before it
        for (const member of group.members) {
          if (data.resume !== "replayed") member.ahead.clear();
          if (data.resume === "reset") {
            group.after = group.at = null; // from here on, current states are what is wanted
            member.snapshot = true;
            member.reset?.();
          }
        }
      } else if (type === "stream.synced") {
        if (group) synced(group, data.sequence);
      } else if (type === "stream.error") {
        if (!group) return;
        const error = new StreamRefused(data.code, data.message);
        for (const member of group.members) {
          members.delete(member);
          member.fail(error);
        }
        forget(group, false);
      } else if (type === "task.snapshot") {
        if (pending?.stage === "subscribed") give(pending, event); // else the rest of one that was given up
      } else if (!type.startsWith("stream.")) {
        publish(event);
      }
    },

    /** The connection is gone: everybody will be asked for again, from where they are. */
    lost() {
      known();
      for (const group of groups.values())
        for (const member of group.members) {
          member.after = resumeOf(group);
          member.group = null;
        }
      groups.clear();
      pending = null;
      epoch = "";
    },

    /** Ends all, and whatever is added later. @param {Error} error */
    stop(error) {
      stopped = error;
      flush();
    },
  };
}
