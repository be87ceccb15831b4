//! scratch
#![allow(missing_docs)]
use noisegate_llm::pretrain::OptimizerOptions;
use noisegate_llm::*;
use std::path::Path;
use std::sync::atomic::AtomicBool;
fn main() {
    let a: Vec<String> = std::env::args().skip(1).collect();
    let model = load(Path::new(&a[0]), &Place::Cpu.open().unwrap()).unwrap();
    let read = |p: &str| -> Vec<Sample> {
        std::fs::read_to_string(p)
            .unwrap()
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    };
    let (train, test) = (read(&a[1]), read(&a[2]));
    let cancel = AtomicBool::new(false);
    let show = |m: &LanguageModel, name: &str| {
        let requests: Vec<ScoreRequest> = test
            .iter()
            .map(|d| ScoreRequest {
                prompt: format!("Topic: {}\nMessage:", d.label),
                continuation: format!(" {}\n", d.text),
            })
            .collect();
        let s = score(m, &requests, &mut |_| (), &cancel).unwrap();
        let mut labels: Vec<String> = train.iter().map(|s| s.label.clone()).collect();
        labels.sort();
        labels.dedup();
        let requests: Vec<ScoreRequest> = labels
            .iter()
            .flat_map(|l| {
                test.iter().map(move |d| ScoreRequest {
                    prompt: format!("Topic: {l}\nMessage:"),
                    continuation: format!(" {}", d.text),
                })
            })
            .collect();
        let all = score(m, &requests, &mut |_| (), &cancel).unwrap();
        let hits = test
            .iter()
            .enumerate()
            .filter(|(i, d)| {
                let best = (0..labels.len())
                    .max_by(|x, y| {
                        all[x * test.len() + i]
                            .mean_log_likelihood
                            .total_cmp(&all[y * test.len() + i].mean_log_likelihood)
                    })
                    .unwrap();
                labels[best] == d.label
            })
            .count();
        println!(
            "{name}: held-out {:.3}, likelihood classifier {:.3}",
            s.iter().map(|s| s.mean_log_likelihood).sum::<f64>() / s.len() as f64,
            hits as f64 / test.len() as f64
        );
    };
    show(&model, "before");
    for setting in &a[3..] {
        let p: Vec<f64> = setting.split(',').map(|x| x.parse().unwrap()).collect();
        let started = std::time::Instant::now();
        let o = AdaptOptions {
            epochs: p[0] as usize,
            group: p[1] as usize,
            batch_windows: p[2] as usize,
            steps_min: 1,
            optimizer: OptimizerOptions {
                matrix_rate: p[3],
                adam_rate: p[4],
                ..Default::default()
            },
            seed: 0,
        };
        let mut last = String::new();
        let m = adapt(
            &model,
            &train,
            &o,
            &mut |p| last = format!("{} steps {}", p.done, p.note),
            &cancel,
        )
        .unwrap();
        println!("{setting} {last} {:.0}s", started.elapsed().as_secs_f64());
        show(&m, setting);
    }
}
