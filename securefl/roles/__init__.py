"""Hospital, party and coordinator as state machines: events in, effects out, no clock, socket or file of their own."""
