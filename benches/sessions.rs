//! Many sessions on one model: what a shared prefix saves, what idle sessions cost, how long a short prompt waits beside a
//! long one, what drafts bring.
//!
//! ```sh
//! cargo bench -p weft --bench sessions -- prefix MODEL [--gpu] [--sessions 64] [--tokens 4000]
//! cargo bench -p weft --bench sessions -- idle MODEL
//! cargo bench -p weft --bench sessions -- fair MODEL [--gpu] [--tokens 100000]
//! cargo bench -p weft --bench sessions -- draft MODEL [--gpu] [--sessions 16] [--tokens 128] [--wave-cost ROWS]
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    unused_crate_dependencies,
    reason = "a program for measurements"
)]

use std::time::{Duration, Instant};
use weft::components::Draft;
use weft::stages::admit::AdmitOptions;
use weft::{
    Engine, EngineOptions, GenerateOptions, GpuOptions, LoadOptions, ModelId, Prompt, SessionId,
    SessionOptions, SpecialTokens, TickOutcome,
};

struct Arguments {
    mode: String,
    model: String,
    gpu: bool,
    sessions: usize,
    tokens: Option<usize>,
    isa: Option<String>,
    wave_cost: Option<f64>,
}

impl Arguments {
    fn read() -> Self {
        let given: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
        let value = |name: &str| {
            let at = given.iter().position(|argument| argument == name)?;
            given.get(at + 1).cloned()
        };
        let number = |name| value(name).map(|value| value.parse().expect("a number"));
        let [mode, model] =
            [0, 1].map(|at| given.get(at).cloned().expect("usage: sessions MODE MODEL [--gpu] …"));
        Self {
            mode,
            model,
            gpu: given.iter().any(|argument| argument == "--gpu"),
            sessions: number("--sessions").unwrap_or(64),
            tokens: number("--tokens"),
            isa: value("--isa"),
            wave_cost: value("--wave-cost").map(|value| value.parse().expect("a number")),
        }
    }

    fn open(&self, kv_tokens: usize) -> (Engine, ModelId) {
        let gpu = self.gpu.then(GpuOptions::default);
        let options = EngineOptions { gpu, isa: self.isa.clone(), ..EngineOptions::default() };
        let mut engine = Engine::new(&options).unwrap();
        let load = LoadOptions { kv_tokens: Some(kv_tokens), ..LoadOptions::default() };
        let model = engine.load(self.model.as_str(), &load).unwrap();
        engine.wait_loaded(model).unwrap();
        (engine, model)
    }
}

/// Tokens that repeat nothing.
fn tokens(count: usize, seed: usize, vocabulary: usize) -> Vec<u32> {
    (0..count)
        .map(|at| ((at * 7919 + seed * 104_729 + at * at % 8191) % vocabulary.min(20_000)) as u32)
        .collect()
}

fn asks(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens: Some(max_tokens), ignore_end: true, ..GenerateOptions::default() }
}

fn start(
    engine: &mut Engine,
    model: ModelId,
    prompt: Vec<u32>,
    private: bool,
    options: &GenerateOptions,
) -> SessionId {
    let session = SessionOptions { private, ..SessionOptions::default() };
    let session = engine.open_session(model, &session).unwrap();
    engine.append(session, Prompt::Tokens(prompt)).unwrap();
    engine.generate(session, options).unwrap();
    session
}

fn said(engine: &Engine, session: SessionId) -> usize {
    engine.output(session).unwrap().tokens.len()
}

fn tick(engine: &mut Engine) {
    if engine.tick() != TickOutcome::Advanced {
        engine.rest();
    }
}

/// Ticks until all sessions have ended. Returns when each had its first token, and when the last had its last.
fn run(engine: &mut Engine, sessions: &[SessionId]) -> (Vec<Duration>, Duration) {
    let start = Instant::now();
    let mut first = vec![None; sessions.len()];
    while sessions.iter().any(|session| engine.phase(*session).unwrap().is_active()) {
        tick(engine);
        for (first, session) in first.iter_mut().zip(sessions) {
            if first.is_none() && said(engine, *session) > 0 {
                *first = Some(start.elapsed());
            }
        }
    }
    (first.into_iter().flatten().collect(), start.elapsed())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The milliseconds of the middle and the last of some durations.
fn middle_and_last(values: &[Duration]) -> (f64, f64) {
    let millis: Vec<f64> = values.iter().map(|value| value.as_secs_f64() * 1e3).collect();
    (median(millis.clone()), millis.iter().copied().fold(0.0, f64::max))
}

/// Sessions that arrive together with one prefix, with and without sharing.
fn prefix(arguments: &Arguments) {
    const ANSWER: usize = 32;
    const TAIL: usize = 20;
    let (prefix, count) = (arguments.tokens.unwrap_or(4000), arguments.sessions);
    println!(
        "| {count} sessions, a prefix of {prefix} tokens | prefilled tokens | first token, median | last | tokens/s |"
    );
    println!("|---|---:|---:|---:|---:|");
    for (private, name) in [(true, "each computes it"), (false, "shared")] {
        let each = prefix + TAIL + ANSWER + 64;
        let (mut engine, model) = arguments.open(count * each);
        let vocabulary = engine.config(model).unwrap().vocabulary;
        // The first waves of a GPU make its buffers.
        let warm = start(&mut engine, model, tokens(prefix + 7, 99, vocabulary), true, &asks(2));
        run(&mut engine, &[warm]);
        engine.close(warm);
        let before = engine.prefix_stats(model).unwrap().prefilled_tokens;
        let common = tokens(prefix, 1, vocabulary);
        let sessions: Vec<_> = (0..count)
            .map(|n| [&common[..], &tokens(TAIL, 100 + n, vocabulary)].concat())
            .map(|prompt| start(&mut engine, model, prompt, private, &asks(ANSWER)))
            .collect();
        let (first, all) = run(&mut engine, &sessions);
        let (middle, last) = middle_and_last(&first);
        let prefilled = engine.prefix_stats(model).unwrap().prefilled_tokens - before;
        let speed = (count * ANSWER) as f64 / all.as_secs_f64();
        println!("| {name} | {prefilled} | {middle:.1} ms | {last:.1} ms | {speed:.0} |");
    }
}

/// A decoding session beside idle ones.
fn idle(arguments: &Arguments) {
    const TICKS: usize = 400;
    const IDLE: usize = 10_000;
    let (mut engine, model) = arguments.open(16_384);
    let time = |engine: &mut Engine| {
        let session = start(engine, model, vec![1, 2, 3], true, &asks(TICKS + 20));
        let mut times = Vec::new();
        while said(engine, session) < TICKS {
            let start = Instant::now();
            engine.tick();
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        engine.close(session);
        median(times.split_off(20))
    };
    let mut alone = Vec::new();
    let mut beside = Vec::new();
    for _ in 0..5 {
        alone.push(time(&mut engine));
        let sessions: Vec<_> = (0..IDLE)
            .map(|_| {
                let session = engine.open_session(model, &SessionOptions::default()).unwrap();
                engine.append(session, Prompt::Tokens(vec![1, 2, 3])).unwrap();
                session
            })
            .collect();
        engine.tick();
        beside.push(time(&mut engine));
        sessions.into_iter().for_each(|session| engine.close(session));
        engine.tick();
    }
    let (alone, beside) = (median(alone), median(beside));
    println!("a tick with one session: {alone:.1} µs; beside {IDLE} idle ones: {beside:.1} µs");
}

/// A short prompt that arrives while a long one is computed.
fn fair(arguments: &Arguments) {
    let long = arguments.tokens.unwrap_or(100_000);
    let (mut engine, model) = arguments.open(long + 1024);
    let vocabulary = engine.config(model).unwrap().vocabulary;
    let alone = start(&mut engine, model, tokens(10, 3, vocabulary), true, &asks(1));
    let (first, _) = run(&mut engine, &[alone]);
    println!("a prompt of 10 tokens alone: {:.1} ms", middle_and_last(&first).0);
    let large = start(&mut engine, model, tokens(long, 1, vocabulary), true, &asks(1));
    let mut longest = Duration::ZERO;
    for _ in 0..6 {
        let start = Instant::now();
        tick(&mut engine);
        longest = longest.max(start.elapsed());
    }
    let (short, begun) =
        (start(&mut engine, model, tokens(10, 2, vocabulary), true, &asks(1)), Instant::now());
    let mut ticks = 0;
    while said(&engine, short) == 0 {
        tick(&mut engine);
        ticks += 1;
    }
    let waited = begun.elapsed().as_secs_f64() * 1e3;
    println!(
        "beside one of {long} tokens: {waited:.1} ms, {ticks} ticks; the longest tick before took {:.1} ms",
        longest.as_secs_f64() * 1e3
    );
    engine.close(large);
}

/// Texts to go on with: one that repeats itself, one that copies with changes, one that does not.
fn kinds() -> [(&'static str, String); 4] {
    let list: String = (1..12)
        .map(|n| {
            format!("{{\"id\": {n}, \"name\": \"item {n}\", \"price\": {}.50, \"in_stock\": true}},\n", 3 * n)
        })
        .collect();
    let text = "The harbour of the small town lies between two hills. In the morning the boats leave for the open sea, and \
                in the evening they come back with fish, crabs and sometimes a strange tale. ";
    let prose = "It was late in the year when the old clockmaker closed his shop for the last time and walked down to";
    let edit = format!(
        "The original file:\n```python\n{CODE}```\nThe same file with `total` renamed to `amount`:\n```python\n"
    );
    [("repeats", text.repeat(4)), ("edit", edit), ("list", format!("[\n{list}")), ("prose", prose.to_owned())]
}

/// A program to edit.
const CODE: &str = r#"class Order:
    def __init__(self, customer, items):
        self.customer = customer
        self.items = items

    def total(self):
        total = 0
        for item in self.items:
            if item.quantity < 0:
                raise ValueError("quantity of " + item.name)
            total += item.price * item.quantity
        return total

    def discounted(self, percent):
        total = self.total()
        return total - total * percent / 100

    def receipt(self):
        lines = ["Receipt for " + self.customer]
        for item in self.items:
            lines.append(f"{item.name}: {item.quantity} x {item.price}")
        lines.append("Total: " + str(self.total()))
        return "\n".join(lines)
"#;

/// Decoding with and without drafts.
fn draft(arguments: &Arguments) {
    const RUNS: usize = 3;
    let answer = arguments.tokens.unwrap_or(128);
    println!("| text | sessions | tokens/s | with drafts | ratio | accepted of drafted |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (name, text) in kinds() {
        for count in [1, 4, 16].into_iter().filter(|count| *count <= arguments.sessions) {
            let (mut engine, model) = arguments.open(count * (answer + 1024) + 4096);
            engine.world_mut().resource_mut::<AdmitOptions>().wave_cost = arguments.wave_cost;
            let tokenizer = engine.tokenizer(model).unwrap();
            let prompt = tokenizer.encode(&text, SpecialTokens::AsText, true).unwrap();
            let (mut speeds, mut ratios, mut stats) = ([Vec::new(), Vec::new()], Vec::new(), (0, 0));
            for round in 0..=RUNS {
                let mut pair = [0.0; 2];
                let mut texts = [Vec::new(), Vec::new()];
                for (which, draft) in [(0, 0), (1, 8)] {
                    let options = GenerateOptions { draft, ..asks(answer) };
                    let sessions: Vec<_> = (0..count)
                        .map(|n| [&prompt[..], &tokens(n % 16, n, 300)].concat())
                        .map(|prompt| start(&mut engine, model, prompt, true, &options))
                        .collect();
                    while sessions.iter().any(|session| said(&engine, *session) == 0) {
                        tick(&mut engine);
                    }
                    let before: usize = sessions.iter().map(|session| said(&engine, *session)).sum();
                    let (_, all) = run(&mut engine, &sessions);
                    pair[which] = (count * answer - before) as f64 / all.as_secs_f64();
                    texts[which] = sessions
                        .iter()
                        .map(|session| engine.output(*session).unwrap().tokens.clone())
                        .collect();
                    for session in sessions {
                        if let Some(draft) = engine.world().get::<Draft>(session.0).filter(|_| round > 0) {
                            stats = (stats.0 + draft.stats.accepted, stats.1 + draft.stats.drafted);
                        }
                        engine.close(session);
                    }
                }
                assert!(arguments.gpu || texts[0] == texts[1], "drafts changed a text");
                if round > 0 {
                    ratios.push(pair[1] / pair[0]);
                    speeds.iter_mut().zip(pair).for_each(|(speeds, speed)| speeds.push(speed));
                }
            }
            let [plain, drafted] = speeds.map(median);
            let ratio = median(ratios);
            println!(
                "| {name} | {count} | {plain:.1} | {drafted:.1} | {ratio:.2} | {} of {} |",
                stats.0, stats.1
            );
        }
    }
}

fn main() {
    let arguments = Arguments::read();
    match arguments.mode.as_str() {
        "prefix" => prefix(&arguments),
        "idle" => idle(&arguments),
        "fair" => fair(&arguments),
        "draft" => draft(&arguments),
        mode => panic!("{mode} is none of prefix, idle, fair, draft"),
    }
}
