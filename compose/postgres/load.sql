-- Orders and device connections, until it is stopped.
with placed as (
    insert into orders (customer, cents)
    select 'customer ' || (random() * 1000)::int, (random() * 20000)::int
)
insert into device_connections (device, country)
select (random() * 500)::int, (array['JP', 'TH', 'PH', 'VN'])[1 + (random() * 3)::int]
\watch 0.5
