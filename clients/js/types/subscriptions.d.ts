/**
 * @param {(command: object) => void} send
 * @param {() => void} redial
 */
export function subscriptions(send: (command: object) => void, redial: () => void): {
    position: () => string | null;
    /** @param {Subscriber} subscriber @returns {() => void} ends it */
    add(subscriber: Subscriber): () => void;
    /** @param {Message} event */
    message(event: Message): void;
    /** The connection is gone: everybody will be asked for again, from where they are. */
    lost(): void;
    /** Ends all, and whatever is added later. @param {Error} error */
    stop(error: Error): void;
};
/**
 * What the application asked for.
 */
export type Subscriber = {
    filter: Lists;
    snapshot: boolean;
    /**
     * position up to which it has everything: `<epoch>:<sequence>` or `<sequence>`
     */
    after: string | null;
    take: (event: Message) => void;
    /**
     * what it had is incomplete or from another log; current states follow
     */
    reset?: (() => void) | undefined;
    synced?: (() => void) | undefined;
    /**
     * it was refused
     */
    fail: (error: Error) => void;
};
/**
 * The same, and what is known of it: ids of events that it got; tasks whose snapshot it got since it was last in step, and
 * the sequence that the snapshot is of; where it belongs on this connection.
 */
export type Member = Subscriber & {
    seen: Set<string>;
    ahead: Map<string | undefined, string>;
    group: Group | null;
};
/**
 * One subscription as the gateway sees it.
 */
export type Group = {
    id: string;
    filter: Lists;
    members: Set<Member>;
    after: string | null;
    snapshot: boolean;
    stage: "queued" | "asked" | "subscribed" | "live";
    /**
     * sequence; what is not greater is known
     */
    floor: string;
    /**
     * sequence up to which all that comes is its own replay, because the others are further on
     */
    horizon: string;
    /**
     * sequence to resume after, once there is one
     */
    at: string | null;
    /**
     * in order up to the horizon, once it is subscribed
     */
    held: Message[];
};
import type { Message } from "./filter.js";
import type { Lists } from "./filter.js";
