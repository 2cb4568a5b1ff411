"""What tests say of single steps of an exchange: which it is, and what a hostile client answers at it."""

from securefl.secagg import mail


def step_of(message):
    """The step that a message or a reply belongs to; empty where there is none."""
    record = message.content.array_records.get(mail.RECORD)
    return "" if record is None else next(iter(record), "").partition(".")[0]


def at_step(message, step):
    """Whether a message belongs to this step of an exchange of training."""
    return step_of(message) == step and message.metadata.message_type == "train"


def written_by(node, step, change):
    """Wraps an app: what this node answers at a step of training is changed."""

    def wrap(app):
        def answering(message, context):
            at = context.node_id == node and at_step(message, step)
            reply = app(message, context)
            if at and not reply.has_error():
                parts = change(*mail.unpacked(reply.content)[1])
                reply.content[mail.RECORD] = mail.packed(step, *parts)
            return reply

        return answering

    return wrap
