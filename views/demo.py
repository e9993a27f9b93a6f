"""The views of `watershed demo`: weather and flights. They look tables up, which `watershed load` needs the files of; `views` has none."""

from views.flights import (
    airports,
    carriers,
    delays,
    delays_by_weather,
    flights_feed,
    planes,
    weather_hours,
)
from views.weather import daily_weather, hourly_weather

VIEWS = (hourly_weather, daily_weather, delays, delays_by_weather)
TABLES = (carriers, planes, airports, weather_hours)
FEEDS = (flights_feed,)
