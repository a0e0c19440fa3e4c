//! The coordinator dies again and again while two producers run transactions one after the other, over partitions of the engine.

use super::*;
use std::collections::BTreeSet;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap() % end
    }
}

/// A producer that keeps to the protocol: one transaction after the other, each record tagged with its transaction.
struct Client {
    appending: Appending,
    producer: Option<Producer>,
    sequences: [i32; 3],
    /// The transaction at hand, and whether something was written in it for certain.
    transaction: Option<String>,
    wrote: bool,
    /// An end that was asked for and not answered.
    asked: Option<bool>,
}

/// What the producers were told of each transaction.
type Told = BTreeMap<String, bool>;

impl Client {
    fn new(appending: Appending) -> Self {
        Self { appending, producer: None, sequences: [0; 3], transaction: None, wrote: false, asked: None }
    }

    fn is_v2(&self) -> bool {
        self.appending == Appending::Records(12)
    }

    /// One request; it may never be answered.
    async fn step(
        &mut self,
        coordinator: &Arc<TransactionCoordinator>,
        ground: &Ground,
        random: &mut Random,
        told: &mut Told,
    ) {
        let Some(producer) = self.producer else {
            if let Ok(producer) = coordinator.init(5, None).await {
                *self = Self { producer: Some(producer), ..Self::new(self.appending) };
            }
            return;
        };
        if let Some(commit) = self.asked {
            return self.end(coordinator, producer, commit, told).await;
        }
        match random.below(5) {
            0 if self.wrote => {
                let commit = random.below(2) == 0;
                self.asked = Some(commit);
                self.end(coordinator, producer, commit, told).await;
            }
            _ => self.write(coordinator, ground, producer, random).await,
        }
    }

    async fn end(
        &mut self,
        coordinator: &Arc<TransactionCoordinator>,
        producer: Producer,
        commit: bool,
        told: &mut Told,
    ) {
        let answer = coordinator.end_with(if self.is_v2() { 5 } else { 3 }, producer, commit).await;
        match ResponseError::try_from_code(answer.error_code) {
            None => {
                self.asked = None;
                let transaction = self.transaction.take().filter(|_| std::mem::take(&mut self.wrote));
                told.extend(transaction.map(|transaction| (transaction, commit)));
                if self.is_v2() {
                    let (id, epoch) = (answer.producer_id.0, answer.producer_epoch);
                    *self = Self { producer: Some(Producer { id, epoch }), ..Self::new(self.appending) };
                }
            }
            Some(ResponseError::ConcurrentTransactions | ResponseError::CoordinatorNotAvailable) => {}
            Some(ResponseError::ProducerFenced) => *self = Self::new(self.appending),
            // The other one made the coordinator abort it, which looks like this producer's own last end.
            Some(ResponseError::InvalidTxnState) if self.is_v2() && commit => *self = Self::new(self.appending),
            Some(error) => panic!("{error:?}"),
        }
    }

    async fn write(
        &mut self,
        coordinator: &Arc<TransactionCoordinator>,
        ground: &Ground,
        producer: Producer,
        random: &mut Random,
    ) {
        let index = random.below(3);
        let number = i32::try_from(index).unwrap();
        if !self.is_v2() && coordinator.add(3, producer, &[number]).await != [0] {
            return;
        }
        // Known before the answer is: what is written without an answer belongs to the same transaction.
        let fresh = || format!("{}-{}-{}", producer.id, producer.epoch, random.below(1 << 30));
        let transaction = self.transaction.get_or_insert_with(fresh).clone();
        let record = (number, self.sequences[index], transaction.as_str());
        match coordinator.produce(ground, self.appending, producer, record).await {
            Ok(()) => {
                self.sequences[index] += 1;
                self.wrote = true;
            }
            Err(ResponseError::InvalidProducerEpoch) => *self = Self::new(self.appending),
            Err(_) => {}
        }
    }
}

/// Each transaction ended once and alike in all partitions, as its producer was told.
fn check(ground: &Ground, told: &Told) {
    let mut outcomes = Told::new();
    for index in 0..3 {
        let mut open: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
        let mut epochs: BTreeMap<i64, i16> = BTreeMap::new();
        for found in ground.found("orders", index) {
            let producer = match &found {
                Found::Record(producer, _) | Found::Marker(producer, _) => *producer,
            };
            let epoch = epochs.entry(producer.id).or_default();
            assert!(producer.epoch >= *epoch, "epoch {} after {epoch}", producer.epoch);
            *epoch = producer.epoch;
            match found {
                Found::Record(producer, transaction) => drop(open.entry(producer.id).or_default().insert(transaction)),
                Found::Marker(producer, end) => {
                    let closed = open.remove(&producer.id).unwrap_or_default();
                    assert!(closed.len() <= 1, "closed together: {closed:?}");
                    for transaction in closed {
                        let outcome = *outcomes.entry(transaction.clone()).or_insert(end.committed);
                        assert_eq!(outcome, end.committed, "{transaction} is not alike everywhere");
                    }
                }
            }
        }
        assert!(open.is_empty(), "still open: {open:?}");
    }
    for (transaction, commit) in told {
        assert_eq!(outcomes.get(transaction), Some(commit), "{transaction} was told otherwise");
    }
}

async fn history(seed: u64) -> usize {
    let mut random = Random(seed);
    let ground = Ground::with(Durability::Flushed);
    let appendings = [Appending::Records(9), Appending::Records(11), Appending::Records(12)];
    let mut clients = [0; 2].map(|_: i32| Client::new(appendings[random.below(3)]));
    let mut told = Told::new();
    let config = TransactionConfig { patience: Duration::from_millis(1), durability: Durability::Flushed, ..config() };
    for _ in 0..12 {
        let coordinator = ground.coordinator(config);
        for _ in 0..random.below(25) {
            // One of the two, mostly the same for a while.
            let client = &mut clients[usize::from(random.below(8) == 0)];
            if random.below(6) == 0 {
                // Its answer is lost: the coordinator dies somewhere in it.
                let patience = sleep(Duration::from_micros(u64::try_from(random.below(3000)).unwrap()));
                let step = client.step(&coordinator, &ground, &mut random, &mut told);
                tokio::select! { () = patience => break, () = step => {} }
            } else {
                client.step(&coordinator, &ground, &mut random, &mut told).await;
            }
        }
        let mut tasks = std::mem::take(&mut *coordinator.tasks());
        tasks.shutdown().await;
    }
    // The last one ends everything.
    let coordinator = ground.coordinator(config);
    coordinator.init_patiently().await.unwrap();
    check(&ground, &told);
    let live = coordinator.shards[0].current(ID).unwrap();
    coordinator.close().await;
    let stored = ground.coordinator(config).shards[0].current(ID).unwrap();
    assert_eq!(*stored, Metadata { last_epoch: None, ..(*live).clone() });
    told.values().filter(|commit| **commit).count()
}

#[tokio::test]
async fn transactions_end_alike_everywhere_whenever_their_coordinator_dies() {
    let setting = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seed, histories) = (setting("DURAMEN_SEED", 1), setting("DURAMEN_HISTORIES", 15));
    let mut committed = 0;
    for seed in seed..seed + histories {
        println!("DURAMEN_SEED={seed} DURAMEN_HISTORIES=1");
        committed += history(seed).await;
    }
    assert!(histories < 15 || committed > 15, "only {committed} transactions were committed");
}
