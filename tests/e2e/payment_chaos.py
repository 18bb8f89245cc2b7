"""The payers, cashiers and operators of payment_chaos.t: random episodes against a running database
and the simulated providers, and the reckoning afterwards.

    payment_chaos.py live DSN PROVIDER SEED EPISODES AT_ONCE SECONDS STATE   runs the episodes, and begins none when
                                                     the time is over; what was asked for goes to STATE
    payment_chaos.py end DSN PROVIDER SEED STATE SECONDS             lets things come to rest and compares the books

Every choice of an episode follows from the seed and its number. Whoever calls the database while it is down
calls again with the same key, as a front end does.
"""
import base64
import collections
import http.client
import json
import queue
import random
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from decimal import Decimal

import psycopg2

ACCOUNTS = 25
METHODS = [('alipay', 'qr')] * 4 + [('alipay', 'wap')] + [('wechat', 'qr')] * 4 + [('wechat', 'h5'), ('wechat', 'jsapi')]
PAYERS = {'h5': '{"client_ip": "127.0.0.1"}', 'jsapi': '{"openid": "o1234567890"}'}
BEHAVIOURS = ['pay'] * 50 + ['pay_twice'] * 5 + ['two_channels'] * 12 + ['other_amount'] * 4 + ['cancel'] * 6 + \
    ['cancel_and_pay'] * 8 + ['late'] * 6 + ['walk_away'] * 6 + ['double_click'] * 3
# Classes of errors a call may meet while servers die: no connection, a rollback for others' sake, an operator's doing.
PASSING = ('08', '40', '57')


class Database:
    """One session; begins anew whenever it is lost."""

    def __init__(self, dsn):
        self.dsn, self.link = dsn, None

    def rows(self, text, *values):
        """Asks until it is answered; whatever is asked twice must mean the same twice."""
        for _ in range(600):
            try:
                if self.link is None:
                    self.link = psycopg2.connect(self.dsn)
                    self.link.autocommit = True
                with self.link.cursor() as cursor:
                    cursor.execute(text, values)
                    return cursor.fetchall() if cursor.description else []
            except psycopg2.Error as error:
                if error.pgcode is not None and error.pgcode[:2] not in PASSING:
                    raise
                self.link = None
                time.sleep(0.2)
        raise RuntimeError('the database does not come back')

    def value(self, text, *values):
        return self.rows(text, *values)[0][0]


class Provider:
    """Commands to the simulated providers, see tests/sim/provider/README.md."""

    def __init__(self, base):
        self.where, self.link = urllib.parse.urlparse(base).netloc, None

    def __call__(self, do, **asked):
        for _ in range(3):
            try:
                self.link = self.link or http.client.HTTPConnection(self.where, timeout=60)
                self.link.request('POST', '/_control', json.dumps(dict(asked, do=do)))
                answer = self.link.getresponse()
                said = json.loads(answer.read())
                return said if answer.status == 200 else None
            except (OSError, http.client.HTTPException):
                self.link = None
        raise RuntimeError('the providers do not answer')


class Pool:
    """A few of something that many threads use in turn: sessions, or links to the providers."""

    def __init__(self, make, size):
        self.free = queue.LifoQueue()
        for _ in range(size):
            self.free.put(make())

    def _with(self, use):
        one = self.free.get()
        try:
            return use(one)
        finally:
            self.free.put(one)

    def rows(self, text, *values):
        return self._with(lambda database: database.rows(text, *values))

    def value(self, text, *values):
        return self._with(lambda database: database.value(text, *values))

    def __call__(self, do, **asked):
        return self._with(lambda provider: provider(do, **asked))


class Watcher(threading.Thread):
    """Looks after all orders somebody waits for, with one question for all of them."""

    def __init__(self, dsn):
        super().__init__(daemon=True)
        self.database, self.lock, self.waiting = Database(dsn), threading.Lock(), {}

    def wait(self, order, good, seconds):
        """The order as soon as it is good(state, shown), or as it is when the time is over."""
        wanted = {'good': good, 'end': time.monotonic() + seconds, 'done': threading.Event(), 'seen': (None, False)}
        with self.lock:
            self.waiting.setdefault(order, []).append(wanted)
        wanted['done'].wait()
        return wanted['seen']

    def run(self):
        while True:
            with self.lock:
                orders = list(self.waiting)
            rows = self.database.rows(
                'SELECT payment_order_id, state, coalesce(qr, url, parameters::text) IS NOT NULL FROM submeter.payment_order '
                'WHERE site_id = 1 AND payment_order_id = ANY (%s)', orders) if orders else []
            with self.lock:
                for order, state, shown in rows:
                    self._tell(order, state, shown)
            time.sleep(0.15)

    def _tell(self, order, state, shown):
        left = []
        for wanted in self.waiting[order]:
            wanted['seen'] = (state, shown)
            if wanted['good'](state, shown) or time.monotonic() > wanted['end']:
                wanted['done'].set()
            else:
                left.append(wanted)
        if left:
            self.waiting[order] = left
        else:
            del self.waiting[order]


class Episode:
    """One payer and what he does. Each order is written down as soon as it exists."""

    def __init__(self, run, number):
        self.run, self.number = run, number
        self.dice = random.Random('%s/%d' % (run.seed, number))
        self.database, self.provider = run.database, run.provider
        self.account = self.dice.randint(1, ACCOUNTS)
        self.amount = Decimal(self.dice.choice([1, 2, 99, 100, 1999, 2000, self.dice.randint(3, 9999)])) / 100

    def play(self):
        provider, method = self.dice.choice(METHODS)
        getattr(self, self.dice.choice(BEHAVIOURS))(provider, method)
        if self.dice.random() < 0.3:
            self.refund()

    def create(self, provider, method):
        """Begins a payment; returns (order, number, url). The same key is the same order however often it is asked."""
        order = self.database.rows(
            'SELECT o.payment_order_id, o.out_trade_no, o.url FROM submeter.create_payment(1, %s, %s, %s, %s, %s, %s) o',
            self.account, provider, self.amount, 'episode-%d' % self.number, method, PAYERS.get(method))[0]
        self.run.asked(order[0], provider, order[1], self.account, self.amount, self.number)
        return order

    def shown(self, order, seconds=90):
        """Whether there is something to pay with; a front end asks now and then."""
        if self.dice.random() < 0.2:
            self.database.rows('SELECT submeter.check_payment(1, %s)', order[0])
        state, shown = self.run.watcher.wait(order[0], lambda state, shown: shown or state != 'open', seconds)
        return shown and state == 'open'

    def ended(self, order, seconds=60):
        return self.run.watcher.wait(order[0], lambda state, shown: state != 'open', seconds)[0]

    def scan(self, order, provider):
        """Before it is scanned, or its page was opened, there is no trade at Alipay."""
        if order[2]:
            try:
                urllib.request.urlopen(order[2], timeout=10).read()
            except (OSError, http.client.HTTPException):
                pass  # a page that does not come up: he may try again, or go
        elif provider == 'alipay':
            self.provider('scan', order=order[1])

    def pays(self, order, provider, **how):
        self.scan(order, provider)
        how.setdefault('notify', self.dice.random() < 0.8)
        if provider == 'alipay' and self.dice.random() < 0.1:
            how.update(finished=True) if self.dice.random() < 0.5 else how.update(coupon='0.01' if self.amount > 1 else '0.00')
        return self.provider('pay', order=order[1], **how)

    # What payers do

    def pay(self, provider, method):
        order = self.create(provider, method)
        if self.shown(order):
            time.sleep(self.dice.random())
            self.pays(order, provider)
            self.ended(order)

    def pay_twice(self, provider, method):
        order = self.create(provider, method)
        if self.shown(order):
            # Whoever asks about the order hears of one of them: of the other its own notification tells, or the file of the day.
            self.pays(order, provider)
            self.pays(order, provider, twice=True)

    def two_channels(self, provider, method):
        other = 'wechat' if provider == 'alipay' else 'alipay'
        first = self.create(provider, method)
        try:
            second = self.create(other, 'qr')
        except psycopg2.Error:
            return
        shown = [self.shown(first), self.shown(second)]
        pairs = [pair for pair, there in zip(((first, provider), (second, other)), shown) if there]
        if len(pairs) == 2 and self.dice.random() < 0.5:
            threads = [threading.Thread(target=self.provider, args=('pay',), kwargs={'order': pair[0][1]}) for pair in pairs]
            for pair, thread in zip(pairs, threads):
                self.scan(*pair)
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            for pair in pairs:
                self.pays(*pair)
                time.sleep(self.dice.random())

    def other_amount(self, provider, method):
        order = self.create(provider, method)
        if self.shown(order):
            amount = max(self.amount + Decimal(self.dice.choice(['0.01', '-0.01'])), Decimal('0.01'))
            self.pays(order, provider, amount=str(amount) if provider == 'alipay' else int(amount * 100))

    def cancel(self, provider, method):
        order = self.create(provider, method)
        time.sleep(2 * self.dice.random())
        self.database.rows('SELECT submeter.cancel_payment(1, %s)', order[0])

    def cancel_and_pay(self, provider, method):
        """Pays in the very moment somebody cancels."""
        order = self.create(provider, method)
        if self.shown(order):
            self.scan(order, provider)
            thread = threading.Thread(target=self.provider, args=('pay',), kwargs={'order': order[1]})
            thread.start()
            time.sleep(0.3 * self.dice.random())
            self.database.rows('SELECT submeter.cancel_payment(1, %s)', order[0])
            thread.join()

    def late(self, provider, method):
        """Keeps the code and pays after the order was closed here."""
        order = self.create(provider, method)
        if self.shown(order):
            self.database.rows('SELECT submeter.cancel_payment(1, %s)', order[0])
            self.ended(order, 20)
            self.pays(order, provider)

    def walk_away(self, provider, method):
        order = self.create(provider, method)
        if self.dice.random() < 0.5 and self.shown(order):
            self.scan(order, provider)

    def double_click(self, provider, method):
        """Asks for the same thing in two sessions at once: one order."""
        threads = [threading.Thread(target=lambda: self.database.rows(
            'SELECT (submeter.create_payment(1, %s, %s, %s, %s, %s, %s)).payment_order_id', self.account, provider, self.amount,
            'episode-%d' % self.number, method, PAYERS.get(method))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.pay(provider, method)

    def refund(self):
        """All or part of what there is goes back, the way it came."""
        most = self.database.value('SELECT submeter.refundable(1, %s)', self.account)
        amount = min(self.amount, most) if self.dice.random() < 0.5 else (most * self.dice.randint(1, 100) / 100).quantize(Decimal('0.01'))
        if amount > 0:
            try:
                self.database.rows("SELECT submeter.refund(1, %s, %s, 'asked for', %s)", self.account, amount, 'refund-%d' % self.number)
            except psycopg2.errors.ObjectNotInPrerequisiteState:
                pass  # somebody else was quicker


class Run:
    def __init__(self, dsn, base, seed, episodes, seconds, path):
        self.dsn, self.base, self.seed, self.end, self.played = dsn, base, seed, time.monotonic() + seconds, 0
        self.database = Pool(lambda: Database(dsn), 24)
        self.provider = Pool(lambda: Provider(base), 24)
        self.watcher = Watcher(dsn)
        self.watcher.start()
        self.work = queue.Queue()
        for number in range(episodes):
            self.work.put(number)
        self.lock = threading.Lock()
        self.state = open(path, 'a', encoding='utf-8')
        self.wrong = []

    def asked(self, *order):
        with self.lock:
            self.state.write(json.dumps(order, default=str) + '\n')

    def worker(self):
        while time.monotonic() < self.end:
            try:
                number = self.work.get_nowait()
            except queue.Empty:
                return
            try:
                self.played += 1
                Episode(self, number).play()
            except Exception as error:  # told at the end; the others go on
                self.wrong.append('episode %d: %r' % (number, error))


def operator(run, stop):
    """What people and providers do meanwhile: refunds end, merchants change, hosts are down for a moment."""
    database, provider, dice = Database(run.dsn), Provider(run.base), random.Random('%s/operator' % run.seed)
    while not stop.wait(1):
        settle_refunds(provider, dice)
        if dice.random() < 0.2:
            one, other = dice.choice([(1, 3), (3, 1), (2, 4), (4, 2)])
            database.rows('UPDATE submeter.merchant SET enabled = merchant_id = %s WHERE merchant_id IN (%s, %s)', one, one, other)
        if dice.random() < 0.05:
            provider('fault', kind=dice.choice(['drop', 'status']), endpoint='any', count=dice.randint(3, 9), arg=503)
        if dice.random() < 0.3:
            provider('fault', kind='refund-processing', endpoint='alipay.trade.refund', count=dice.randint(1, 3))
        if dice.random() < 0.02:
            provider('rotate', provider='wechat', overlap=5)
        if dice.random() < 0.3:
            provider('hurry')


def settle_refunds(provider, dice, final=False):
    commands = []
    for number in provider('unsettled'):
        if final or dice.random() < 0.3:
            good = final or dice.random() < 0.8
            commands.append({'do': 'settle-refund', 'refund': number,
                             'status': 'SUCCESS' if good else dice.choice(['CLOSED', 'ABNORMAL'])})
    provider('many', commands=commands)


def live(dsn, base, seed, episodes, at_once, seconds, path):
    run = Run(dsn, base, seed, int(episodes), int(seconds), path)
    threads = [threading.Thread(target=run.worker, daemon=True) for _ in range(int(at_once))]
    stop = threading.Event()
    threading.Thread(target=operator, args=(run, stop), daemon=True).start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    run.state.close()
    print('%d episodes were played, %d went wrong themselves' % (run.played, len(run.wrong)), *run.wrong[:20], sep='\n')
    return not run.wrong


# The reckoning ----------------------------------------------------------------------------------

UNDER_WAY = """SELECT 'order ' || payment_order_id || ' is ' || state FROM submeter.payment_order WHERE state = 'open' OR next_check_at < now() + '1 minute'
    UNION ALL SELECT 'refund ' || payment_refund_id || ' is ' || state FROM submeter.payment_refund WHERE state NOT IN ('done', 'failed')
    UNION ALL SELECT 'request ' || outbound_id || ' ' || kind || ' is ' || state FROM submeter.outbound WHERE state IN ('queued', 'claimed') AND kind LIKE 'payment%'"""


def rest(database, provider, seconds):
    """Faults are over, nobody pays any more: until nothing is under way. The time that has to pass until
    providers are asked again passes at once; what is left at the end of the ceiling is returned."""
    provider('clear')
    dice, end, rounds = random.Random(0), time.monotonic() + seconds, 0
    database.rows("SELECT submeter.cancel_payment(1, payment_order_id) FROM submeter.payment_order WHERE state = 'open'")
    while True:
        settle_refunds(provider, dice, final=True)
        provider('hurry')
        if rounds % 8 == 0:
            database.rows("UPDATE submeter.payment_order SET next_check_at = now() WHERE state = 'open' AND next_check_at > now()")
            database.rows("UPDATE submeter.payment_refund SET next_check_at = now() WHERE state NOT IN ('done', 'failed')")
            # Hosts that failed are tried again now, and not in up to ten minutes.
            database.rows('UPDATE submeter.outbound_host SET open_until = now() WHERE open_until > now()')
            database.rows("UPDATE submeter.outbound SET not_before = now() WHERE state = 'queued' AND not_before > now() AND kind LIKE 'payment%%'")
        left = [row[0] for row in database.rows(UNDER_WAY.replace('%', '%%'))]
        left += ['notification ' + json.dumps(notice['about']) for notice in provider('pending')]
        if not left or time.monotonic() > end:
            return left
        rounds += 1
        if rounds % 40 == 0:
            print('# still under way: %d, such as' % len(left), left[:5], flush=True)
        time.sleep(0.5)


def last_poll(database, provider, seconds):
    """Every order that was never paid is asked about once more, as when its code dies after two hours."""
    database.rows("UPDATE submeter.payment_order SET next_check_at = now() WHERE state = 'closed' AND merchant_id IS NOT NULL")
    return rest(database, provider, seconds)


def hand_in(database, provider):
    """The files of each account at the providers for the days there was anything, as a person hands them in."""
    for name, merchant, day in database.rows('SELECT DISTINCT m.provider, r.merchant_id, submeter.china_day(r.paid_at) FROM submeter.payment_receipt r '
                                             'JOIN submeter.merchant m USING (site_id, merchant_id) ORDER BY 2, 3'):
        number = database.value('SELECT out_trade_no FROM submeter.payment_receipt WHERE merchant_id = %s LIMIT 1', merchant)
        file = base64.b64decode(provider('bill', order=number, day=str(day))['file'])
        print('# the file of', name, merchant, day, database.rows('SELECT * FROM submeter.reconcile(1, %s, %s, %s)', name, day, psycopg2.Binary(file)))


def explain(database, provider, order):
    """All that is known of an order, for a person."""
    print('# order %s:' % order, database.rows('SELECT account_id, provider, merchant_id, method, amount, state, out_trade_no, created_at, expires_at, '
                                               'paid_at, closed_at, detail FROM submeter.payment_order WHERE payment_order_id = %s', order))
    for row in database.rows('SELECT received_at, source, verified, outcome FROM submeter.payment_event WHERE payment_order_id = %s ORDER BY 1', order):
        print('#   heard', *row)
    for row in database.rows("SELECT created_at, kind, state, attempts, status, detail FROM submeter.outbound WHERE ref ->> 'payment_order_id' = %s::text ORDER BY 1", order):
        print('#   asked', *row)
    for row in database.rows('SELECT kind, amount, provider_transaction, booked_at FROM submeter.payment_receipt WHERE payment_order_id = %s ORDER BY 4', order):
        print('#   money', *row)
    number = database.value('SELECT out_trade_no FROM submeter.payment_order WHERE payment_order_id = %s', order)
    for entry in provider('journal', order=number) or []:
        print('#   there', {k: v for k, v in entry.items() if k not in ('body', 'content')})


class Reckoning:
    def __init__(self, database, provider, path):
        self.database, self.provider = database, provider
        self.failed, self.told = 0, 0
        self.orders = {}
        for line in open(path, encoding='utf-8'):
            order, provider_name, number, account, amount, episode = json.loads(line)
            self.orders[number] = (order, account, Decimal(amount), episode)
        self.book = [row for row in provider('book') if Decimal(row['paid']) > 0]

    def say(self, what, wrong):
        """One line of the result; wrong: (order or None, text) of each thing that is not as it should be."""
        wrong = list(wrong)
        print(('not ok - ' if wrong else 'ok - ') + what)
        self.failed += bool(wrong)
        for order, text in wrong[:5]:
            print('# ' + text)
            if order is not None and self.told < 5:
                self.told += 1
                explain(self.database, self.provider, order)

    def transactions(self):
        rows = self.database.rows('SELECT provider_transaction, out_trade_no, amount, kind, payment_order_id FROM submeter.payment_receipt')
        ours = collections.defaultdict(list)
        for row in rows:
            ours[row[0]].append(row)
        self.say('each transaction of the providers is credited once, with its amount', (
            (self.orders.get(row['order'], [None])[0], '%s %s of %s: paid %s, booked %s' % (
                row['provider'], row['trade_no'], row['order'], row['paid'], [str(r[2]) for r in ours[row['trade_no']]]))
            for row in self.book if [r[2] for r in ours[row['trade_no']]] != [Decimal(row['paid'])]))
        known = {row['trade_no'] for row in self.book}
        self.say('nothing is credited that no provider took', ((row[4], str(row)) for row in rows if row[0] not in known))
        self.say('no order is credited twice as ordered', (
            (order, 'order %s' % order) for order, count in collections.Counter(row[4] for row in rows if row[3] == 'order').items() if count > 1))

    def accounts(self):
        """The balance of each account is what was paid for its orders less what went back."""
        want = collections.Counter({account: Decimal(0) for account in range(1, ACCOUNTS + 1)})
        for row in self.book:
            want[self.orders[row['order']][1]] += Decimal(row['paid']) - Decimal(row['refunded'])
        have = dict(self.database.rows('SELECT account_id, submeter.balance(1, account_id) FROM submeter.account'))
        self.say('each balance is what was paid less what went back', (
            (None, 'account %d: the providers say %s, we say %s' % (account, want[account], have[account]))
            for account in have if want[account] != have[account]))

    def refunds(self):
        ours = collections.Counter()
        for number, amount in self.database.rows(
                "SELECT r.provider_transaction, f.amount FROM submeter.payment_refund f JOIN submeter.payment_receipt r USING (site_id, payment_receipt_id) WHERE f.state = 'done'"):
            ours[number] += amount
        self.say('what went back of each transaction is what the providers say', (
            (self.orders[row['order']][0], '%s of %s: the provider says %s, we say %s' % (row['trade_no'], row['order'], row['refunded'], ours[row['trade_no']]))
            for row in self.book if Decimal(row['refunded']) != ours[row['trade_no']]))

    def states(self):
        paid = {row['order'] for row in self.book}
        states = dict((number, (order, state)) for number, order, state in self.database.rows('SELECT out_trade_no, payment_order_id, state FROM submeter.payment_order'))
        self.say('orders are paid when they were paid, closed when not', (
            (order, 'order %s is %s, paid there: %s' % (order, state, number in paid))
            for number, (order, state) in states.items() if state != ('paid' if number in paid else 'closed')))
        self.say('every order was asked for by somebody', ((order, number) for number, (order, _) in states.items() if number not in self.orders))
        self.say('whatever is not as ordered is proposed for refund', (
            (order, '%s of order %s' % (kind, order)) for kind, order in self.database.rows(
                "SELECT r.kind, r.payment_order_id FROM submeter.payment_receipt r WHERE r.kind <> 'order' AND NOT EXISTS (SELECT FROM submeter.proposal p "
                "WHERE p.site_id = r.site_id AND p.account_id = r.account_id AND (p.detail ->> 'payment_receipt_id')::bigint = r.payment_receipt_id)")))

    def files(self):
        self.say('the files of the providers say nothing else', (
            (order, str(row)) for order, *row in self.database.rows(
                "SELECT payment_order_id, result, kind, provider_transaction, refund_no, amount, ours FROM submeter.reconcile_row WHERE state = 'open'")))

    def quiet(self):
        """Nothing was swallowed: no exception in a notification or a taker of answers, no duty that fails."""
        self.say('no message failed in our own code', ((order, outcome) for order, outcome in self.database.rows(
            "SELECT payment_order_id, outcome FROM submeter.payment_event WHERE outcome LIKE 'failed: %%'")))
        self.say('nor did an answer', ((None, str(row)) for row in self.database.rows(
            "SELECT kind, ref, state, detail FROM submeter.outbound WHERE detail ~ '^[0-9A-Z]{5}: '")))
        self.say('no duty fails', ((None, str(row)) for row in self.database.rows('SELECT duty, error FROM submeter.duty_state WHERE failures > 0')))
        self.say('the ledger is verified', ((None, str(row)) for row in self.database.rows('SELECT * FROM submeter.verify_ledger(1)')))


def end(dsn, base, seed, path, seconds):
    database, provider = Database(dsn), Provider(base)
    reckoning = Reckoning(database, provider, path)
    begin = time.monotonic()
    left = rest(database, provider, int(seconds))
    reckoning.say('all comes to rest', ((int(text.split()[1]) if text.startswith('order') else None, text) for text in left))
    left = last_poll(database, provider, int(seconds))
    reckoning.say('also after the last questions', ((int(text.split()[1]) if text.startswith('order') else None, text) for text in left))
    rested = time.monotonic()
    hand_in(database, provider)
    reckoning.book = [row for row in provider('book') if Decimal(row['paid']) > 0]
    for check in (reckoning.files, reckoning.transactions, reckoning.accounts, reckoning.refunds, reckoning.states, reckoning.quiet):
        check()
    print('# at rest after %.0f s' % (rested - begin))
    print('# kinds of money:', dict(database.rows('SELECT kind, count(*) FROM submeter.payment_receipt GROUP BY 1 ORDER BY 1')))
    print('# refunds:', dict(database.rows('SELECT state, count(*) FROM submeter.payment_refund GROUP BY 1 ORDER BY 1')))
    print('# messages:', dict(database.rows('SELECT source, count(*) FROM submeter.payment_event GROUP BY 1 ORDER BY 1')))
    return reckoning.failed == 0


if __name__ == '__main__':
    sys.exit(0 if {'live': live, 'end': end}[sys.argv[1]](*sys.argv[2:]) else 1)
