"""From the log to endpoints: signing, schedule, lanes, address guard, dispatcher."""
