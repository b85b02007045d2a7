//! The picture of the overview: stores, queues and services as they are laid out right now, and what flows between them. Geometry only; the template draws it.

use serde::Serialize;

use crate::{
    snapshot::{Level, QueueRow, Snapshot},
    text,
};

/// For a desktop, or for a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Stores, queues and services side by side.
    Wide,
    /// One below the other.
    Narrow,
}

/// A store or a service.
#[derive(Debug, Serialize)]
pub struct Node {
    x: i32,
    y: i32,
    width: i32,
    height: i32,
    level: Option<Level>,
    title: String,
    line: String,
}

/// A queue.
#[derive(Debug, Serialize)]
pub struct QueueBox {
    x: i32,
    y: i32,
    width: i32,
    height: i32,
    level: Level,
    name: String,
    line: String,
    rates: String,
    /// How full it is beside the fullest.
    bar: i32,
    href: String,
}

/// A flow.
#[derive(Debug, Serialize)]
pub struct Flow {
    path: String,
    /// Whether anything moves now.
    moves: bool,
    level: Level,
    /// The line's width.
    width: f64,
}

/// The picture.
#[derive(Debug, Serialize)]
pub struct Chart {
    kind: &'static str,
    width: i32,
    height: i32,
    boxes: Vec<Node>,
    queues: Vec<QueueBox>,
    flows: Vec<Flow>,
    /// The same in words, for who does not see it.
    told: String,
}

/// Draws what was seen.
pub fn draw(snapshot: &Snapshot, layout: Layout) -> Chart {
    match layout {
        Layout::Wide => wide(snapshot),
        Layout::Narrow => narrow(snapshot),
    }
}

const LANE: i32 = 52;
const GAP: i32 = 10;

fn int(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// The stores: name, how it is, what there is to say.
fn stores(snapshot: &Snapshot) -> [(&'static str, Option<Level>, String); 3] {
    let of = |away: &Option<String>| if away.is_some() { Level::Bad } else { Level::Good };
    let waiting: u64 = snapshot.outbox.iter().flatten().map(|row| row.figures.pending).sum();
    let database = match &snapshot.outbox {
        Some(_) => format!("outbox: {} to publish", text::grouped(waiting)),
        None => "does not answer".to_owned(),
    };
    let ready: u64 = snapshot.queues.iter().filter_map(|queue| queue.ready).sum();
    let broker = match &snapshot.away.broker {
        Some(_) => "does not answer".to_owned(),
        None => format!("{} in queues", text::grouped(ready)),
    };
    let storage = snapshot.processes.iter().filter(|process| !process.services.is_empty());
    let is_away = storage.clone().any(|process| process.causes.contains_key("storage"));
    let asks = storage.into_iter().any(|process| process.services.iter().any(|name| name == "autha"));
    let (level, bucket) = match (is_away, asks) {
        (true, _) => (Some(Level::Bad), "does not answer"),
        (false, true) => (Some(Level::Good), "pictures"),
        (false, false) => (None, "not looked at"),
    };
    [
        ("PostgreSQL", Some(of(&snapshot.away.database)), database),
        ("RabbitMQ", Some(of(&snapshot.away.broker)), broker),
        ("Object store", level, bucket.to_owned()),
    ]
}

fn queue_box(queue: &QueueRow, most: u64, (x, y, width): (i32, i32, i32)) -> QueueBox {
    let ready = queue.ready.unwrap_or_default();
    let mut line = match queue.ready {
        Some(ready) => format!("{} ready", text::grouped(ready)),
        None => "not known".to_owned(),
    };
    if let Some(dead) = queue.dead.filter(|dead| *dead > 0) {
        line.push_str(&format!(", {} dead", text::grouped(dead)));
    }
    let share = i64::from(width - 24) * i64::try_from(ready).unwrap_or(i64::MAX / 4096)
        / i64::try_from(most.max(1)).unwrap_or(i64::MAX);
    let rates = match (queue.incoming, queue.outgoing) {
        (Some(incoming), Some(outgoing)) => format!("{incoming:.1} in, {outgoing:.1} out /s"),
        _ => String::new(),
    };
    QueueBox {
        x,
        y,
        width,
        height: LANE - GAP,
        level: queue.level,
        name: short(&queue.name, 34),
        line,
        rates,
        bar: if ready > 0 { i32::try_from(share).unwrap_or_default().max(3) } else { 0 },
        href: if queue.dead.unwrap_or_default() > 0 {
            format!("/dead?handler={}", queue.name)
        } else {
            "/queues".to_owned()
        },
    }
}

fn flow(path: String, rate: Option<f64>, level: Level) -> Flow {
    let rate = rate.unwrap_or_default();
    // One pixel for nothing, five for a thousand a second.
    Flow { path, moves: rate > 0.0, level, width: (1.2 + (1.0 + rate).log10() * 1.4).min(6.0) }
}

fn curve((x1, y1): (i32, i32), (x2, y2): (i32, i32)) -> String {
    let middle = i32::midpoint(x1, x2);
    format!("M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}")
}

fn most(snapshot: &Snapshot) -> u64 {
    snapshot.queues.iter().filter_map(|queue| queue.ready).max().unwrap_or_default()
}

fn service_line(processes: usize, about: &str) -> String {
    match processes {
        0 => "not seen".to_owned(),
        1 => about.to_owned(),
        n => format!("{n} processes: {about}"),
    }
}

fn wide(snapshot: &Snapshot) -> Chart {
    let (left, middle, right) = (0, 300, 700);
    let services = &snapshot.services;
    let height = (int(snapshot.queues.len()) * LANE).max(int(services.len()) * 62).max(3 * 96) + 8;
    let mut boxes = Vec::new();
    let spread = |n: usize, of: usize, tall: i32| {
        let slot = height / int(of.max(1));
        slot * int(n) + (slot - tall) / 2
    };
    for (n, (title, level, line)) in stores(snapshot).into_iter().enumerate() {
        let (title, y) = (title.to_owned(), spread(n, 3, 64));
        boxes.push(Node { x: left, y, width: 190, height: 64, level, title, line });
    }
    let broker = boxes.get(1).map_or(0, |store| store.y + 32);
    let database = boxes.first().map_or(0, |store| store.y);
    let mut flows = vec![flow(
        format!("M95 {} L95 {}", database + 64, broker - 32),
        snapshot.outbox.iter().flatten().any(|row| row.figures.pending > 0).then_some(1.0),
        if snapshot.away.broker.is_some() || snapshot.away.database.is_some() {
            Level::Bad
        } else {
            Level::Good
        },
    )];
    let mut at = Vec::new();
    for (n, service) in services.iter().enumerate() {
        let y = spread(n, services.len(), 52);
        at.push((service.name, y + 26));
        let line = short(&service_line(service.processes, service.about), 30);
        let title = service.name.to_owned();
        boxes.push(Node { x: right, y, width: 260, height: 52, level: service.level, title, line });
    }
    let mut queues = Vec::new();
    let most = most(snapshot);
    for (n, queue) in snapshot.queues.iter().enumerate() {
        let y = spread(n, snapshot.queues.len(), LANE - GAP);
        let centre = y + (LANE - GAP) / 2;
        flows.push(flow(curve((left + 190, broker), (middle, centre)), queue.incoming, queue.level));
        if let Some((_, service)) = at.iter().find(|(name, _)| *name == queue.service) {
            flows.push(flow(curve((middle + 310, centre), (right, *service)), queue.outgoing, queue.level));
        }
        queues.push(queue_box(queue, most, (middle, y, 310)));
    }
    Chart { kind: "wide", width: 962, height, boxes, queues, flows, told: told(snapshot) }
}

fn narrow(snapshot: &Snapshot) -> Chart {
    let mut boxes = Vec::new();
    let mut flows = Vec::new();
    let mut queues = Vec::new();
    let mut y = 2;
    // The broker last: flows begin below it.
    let [database, broker, storage] = stores(snapshot);
    for (title, level, line) in [database, storage, broker] {
        boxes.push(Node { x: 2, y, width: 336, height: 44, level, title: title.to_owned(), line });
        y += 52;
    }
    let broker = y - 8;
    y += 8;
    let most = most(snapshot);
    for service in &snapshot.services {
        let title = service.name.to_owned();
        let line = short(&service_line(service.processes, service.about), 40);
        boxes.push(Node { x: 26, y, width: 312, height: 44, level: service.level, title, line });
        y += 50;
        for queue in snapshot.queues.iter().filter(|queue| queue.service == service.name) {
            let centre = y + (LANE - GAP) / 2;
            flows.push(flow(format!("M12 {broker} L12 {centre} L40 {centre}"), queue.incoming, queue.level));
            queues.push(queue_box(queue, most, (40, y, 298)));
            y += LANE;
        }
        y += 6;
    }
    Chart { kind: "narrow", width: 340, height: y, boxes, queues, flows, told: told(snapshot) }
}

/// A text that fits.
fn short(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit - 1).chain(['…']).collect()
}

fn told(snapshot: &Snapshot) -> String {
    let queues: Vec<_> = snapshot
        .queues
        .iter()
        .map(|queue| {
            let ready = queue.ready.map_or_else(|| "not known".to_owned(), text::grouped);
            format!("{}: {ready} ready, read by {}", queue.name, queue.service)
        })
        .collect();
    let stores: Vec<_> =
        stores(snapshot).into_iter().map(|(name, _, line)| format!("{name}: {line}")).collect();
    format!("{}. {}.", stores.join("; "), queues.join("; "))
}
