//! One batch on one channel: published with pipelined confirms, and what became of each row. What is written down lives in `lane`.

use std::collections::HashSet;

use futures_util::future::join_all;
use lapin::{Confirmation, ErrorKind, message::BasicReturnMessage, types::ShortString};
use orrery_store::outbox::Row;

use super::message;
use crate::{
    Bus, BusError, Patience,
    channels::{Taken, mandatory},
    spans,
};

/// What became of a row.
pub(super) enum RowOutcome {
    /// A queue has it.
    Sent,
    /// No queue is bound for it.
    Unrouted,
    /// It can never be published, and never was.
    Failed(String),
    /// The broker refused to keep it: a queue is full.
    Refused,
    /// The channel or the connection was closed before the confirm came.
    Broken(lapin::Error),
    /// No confirm came in time.
    Silent,
    /// It was confirmed, and whether it was returned too is not known.
    Doubtful,
}

/// Who is to blame for a closed channel or connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// One of the messages, for which the broker closed it.
    Message,
    /// One of the messages, whose exchange is missing.
    Exchange,
    /// One of the messages or the broker itself.
    Unclear,
    /// No message: the broker went down or the connection was lost.
    Nobody,
}

/// Reads it from the error (AMQP 0.9.1, section 1.2: reply codes).
pub(super) fn blame(error: &lapin::Error) -> Blame {
    let ErrorKind::ProtocolError(error) = error.kind() else { return Blame::Nobody };
    match error.get_id() {
        // connection-forced: an orderly shutdown, or an operator. resource-error: no memory.
        320 | 506 => Blame::Nobody,
        404 => Blame::Exchange,
        541 => Blame::Unclear,
        _ => Blame::Message,
    }
}

enum Answer {
    /// With the id of a returned message, which is any of the batch.
    Acked(Option<ShortString>),
    Nacked(Option<ShortString>),
    Failed(String),
    Broken(lapin::Error),
    Silent,
}

/// Publishes the rows on a channel that nothing else is being published on, and waits for their confirms.
pub(super) async fn publish(
    bus: &Bus,
    channel: &Taken,
    patience: &Patience,
    rows: &mut [Row],
) -> Result<Vec<RowOutcome>, BusError> {
    let answers = join_all(rows.iter_mut().map(|row| answer(bus, channel, patience, row))).await;
    let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    // lapin hands a returned message to whichever confirm it completes next, so that it is known by its id alone. By the time that every
    // message is confirmed, every return was handed out; before, one may still lie behind another.
    let returned: HashSet<String> = answers.iter().filter_map(returned).map(ToString::to_string).collect();
    let is_complete = !answers.iter().any(|answer| matches!(answer, Answer::Broken(_) | Answer::Silent));
    // One that was not waited for to its end may have been handed the return of any other.
    let is_silent = answers.iter().any(|answer| matches!(answer, Answer::Silent));
    let is_known = is_complete || (returned.is_empty() && !is_silent);
    let outcomes = rows
        .iter()
        .zip(answers)
        .map(|(row, answer)| match answer {
            Answer::Failed(error) => RowOutcome::Failed(error),
            Answer::Broken(error) => RowOutcome::Broken(error),
            Answer::Silent => RowOutcome::Silent,
            _ if !returned.is_empty() && returned.contains(&message::id(row)) => RowOutcome::Unrouted,
            Answer::Acked(_) if is_known => RowOutcome::Sent,
            Answer::Acked(_) => RowOutcome::Doubtful,
            Answer::Nacked(_) => RowOutcome::Refused,
        })
        .collect();
    Ok(outcomes)
}

fn returned(answer: &Answer) -> Option<&ShortString> {
    match answer {
        Answer::Acked(returned) | Answer::Nacked(returned) => returned.as_ref(),
        _ => None,
    }
}

async fn answer(bus: &Bus, channel: &Taken, patience: &Patience, row: &mut Row) -> Result<Answer, BusError> {
    let (channel, link) = channel.get()?;
    let span = spans::sending(row);
    let message = match message::encode(bus, row) {
        Ok(message) => message,
        Err(error) => return Ok(Answer::Failed(error.to_string())),
    };
    let publish = async {
        channel
            .basic_publish(
                message.exchange,
                message.routing_key,
                mandatory(),
                &message.body,
                message.properties,
            )
            .await?
            .await
    };
    let answer = match span.clone().run(link.patiently(bus.confirm_timeout(), patience, publish)).await {
        Ok(Ok(Confirmation::Ack(returned))) => Answer::Acked(returned.and_then(id)),
        Ok(Ok(Confirmation::Nack(returned))) => Answer::Nacked(returned.and_then(id)),
        // Never on a channel of ours: it was asked for confirms.
        Ok(Ok(Confirmation::NotRequested)) => Answer::Silent,
        Ok(Err(error)) => Answer::Broken(error),
        Err(_) => Answer::Silent,
    };
    match answer {
        Answer::Acked(_) => {}
        Answer::Nacked(_) => span.fail("refused"),
        Answer::Failed(_) | Answer::Broken(_) => span.fail("broken"),
        Answer::Silent => span.fail("timeout"),
    }
    Ok(answer)
}

fn id(returned: BasicReturnMessage) -> Option<ShortString> {
    returned.delivery.properties.message_id().clone()
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    #[test]
    fn only_what_a_message_can_bring_about_is_blamed_on_one() {
        let protocol = |code| {
            let error = AMQPError::from_id(code, "words".into()).unwrap();
            blame(&lapin::Error::from(ErrorKind::ProtocolError(error)))
        };
        for code in [403, 406, 501, 502, 505] {
            assert_eq!(protocol(code), Blame::Message, "{code}");
        }
        assert_eq!(protocol(404), Blame::Exchange);
        assert_eq!(protocol(541), Blame::Unclear);
        for code in [320, 506] {
            assert_eq!(protocol(code), Blame::Nobody, "{code}");
        }
        let lost = lapin::Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(blame(&lost), Blame::Nobody);
    }
}
